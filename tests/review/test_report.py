"""What a report says of an image that has one of everything."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from io import StringIO

import pytest

from dindkit.formats import capabilities
from dindkit.review import text
from dindkit.review.licences import licence_counts
from dindkit.review.report import File, Report
from tests.review.conftest import CAP_NET_RAW, Scene


@pytest.fixture
def report(scene: Scene) -> Report:
    return scene.report()


def unowned(report: Report) -> dict[str, File]:
    return {file.path: file for file in report.unowned}


def test_every_package_and_the_chain_that_brought_it_in(report: Report) -> None:
    why = {package.name: package.why for package in report.packages}
    assert why["libc"] == ("images/base/image.toml", "apt")
    assert why["base-files"] == ("essential",)
    assert why["docker-ce"] == ("images/dind/image.toml",)
    (libc,) = [package for package in report.packages if package.name == "libc"]
    assert (libc.layer, libc.archive, libc.sha256) == (
        "base packages",
        "debian",
        hashlib.sha256(b"libc").hexdigest(),
    )
    assert libc.files == 4  # su, ping, libc.conf, and the one that was moved aside


def test_paths_are_owned_through_merged_usr_and_diversions(report: Report) -> None:
    paths = unowned(report)
    assert not paths.keys() & {"/usr/bin/su", "/usr/bin/ping", "/usr/lib/diverted", "/usr/lib/diverted.old"}


@pytest.mark.parametrize(
    ("path", "origin", "by"),
    [
        ("/certs", "recipe", "images/dind/image.toml"),
        ("/usr/local/bin/start.sh", "entrypoint", "images/dind/rootfs/usr/local/bin/start.sh"),
        ("/etc/environment", "maintainer script", "libc"),
        ("/etc/alternatives/editor", "maintainer script", "tool"),
        ("/etc/passwd", "maintainer script", "base-passwd"),
        ("/var/lib/dpkg/info/libc.list", "dpkg", "its database of what is installed"),
        ("/etc/mystery<b>", "maintainer script", ""),
    ],
)
def test_what_no_package_owns_has_an_origin(report: Report, path: str, origin: str, by: str) -> None:
    file = unowned(report)[path]
    assert (file.origin, file.by) == (origin, by)


def test_files_have_a_hash_and_a_layer(report: Report) -> None:
    file = unowned(report)["/etc/environment"]
    assert file.sha256 == hashlib.sha256(b"LANG=C\n").hexdigest()
    assert file.layer == "base packages"
    assert unowned(report)["/etc/alternatives/editor"].link == "/usr/bin/tool"


def test_a_conffile_that_was_changed_is_named_and_one_that_was_not_is_not(report: Report) -> None:
    assert [(file.path, file.package, file.layer) for file in report.changed] == [
        ("/etc/libc.conf", "libc", "dind packages")
    ]


def test_privileges(report: Report) -> None:
    assert {(one.path, one.what, one.package) for one in report.privileges} == {
        ("/usr/bin/su", "set-uid root", "libc"),
        ("/usr/bin/ping", "cap_net_raw=ep", "libc"),
        ("/etc/mystery<b>", "writable by everybody", ""),
    }
    assert capabilities.decode(CAP_NET_RAW) == "cap_net_raw=ep"


def test_ports_and_users(report: Report) -> None:
    assert [one.port for one in report.ports] == ["2376/tcp", "/run/tool.sock"]
    assert "no systemd" in report.ports[1].why
    assert {user.name: (user.password, user.groups) for user in report.users} == {
        "root": ("locked", ("audio",)),
        "guest": ("none", ()),
        "odd": ("locked", ()),
        "open": ("set", ()),
    }


def test_keys_archives_layers_and_space(report: Report, scene: Scene) -> None:
    assert {key.file: (key.archives, key.used) for key in report.keys}["docker.asc"] == (("docker",), True)
    assert [(one.name, one.locks) for one in report.archives] == [
        ("debian", ("base", "dind")),
        ("debian-security", ("base", "dind")),
        ("docker", ("dind",)),
    ]
    assert [one.image for one in report.layers] == ["base packages", "dind packages", "dind files"]
    assert report.image.id == scene.built.image_id
    assert sum(one.size for one in report.space) == report.image.unpacked
    assert report.space[0].name == "tool"


def test_what_packages_cost_compressed_adds_up_to_the_layers(report: Report) -> None:
    for one in report.layers:
        assert sum(space.compressed for space in report.space if space.layer == one.image) == one.size
    costs = {package.name: package.compressed for package in report.packages}
    assert costs["tool"] > 0
    assert costs["apt"] == 0  # it has no files here
    assert sum(costs.values()) < report.image.size


def test_licences_are_those_of_the_copyright_files(report: Report) -> None:
    found = {one.name: (one.copyright, one.licences) for one in report.packages}
    named = ("Expat<b>", "LGPL-2.1+")
    assert found["libc"] == ("/usr/share/doc/libc/copyright", named)
    assert found["apt"] == (
        "/usr/share/doc/libc/copyright",
        named,
    )  # of the same source, without a file itself
    assert found["base-files"] == ("/usr/share/doc/base-files/copyright", ())
    assert found["tool"] == ("", ())
    assert dict(licence_counts(report.packages)) == {
        "Expat<b>": 2,
        "LGPL-2.1+": 2,
        "see copyright file": 1,
        "no copyright file in the image": 2,
    }


def test_json_and_text_are_the_same_every_time(report: Report, scene: Scene) -> None:
    assert json.dumps(asdict(report)) == json.dumps(asdict(scene.report()))
    out = StringIO()
    text.show(report, out)
    for words in (
        "keys",
        "images/base/image.toml → apt",
        "cap_net_raw=ep",
        report.image.id,
        "guest",
        "2376/tcp",
    ):
        assert words.lower() in out.getvalue().lower()
