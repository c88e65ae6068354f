"""`invoke lock` from InRelease to rows, on an archive of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from dindkit.errors import RecipeError, TrustError
from dindkit.packages import make_lock
from dindkit.packages.lock import Lock
from dindkit.packages.solver import Request
from tests.packages.conftest import ServedArchive
from tests.support.archive import ArchiveBuilder, KeyRing, Pin, make_project, serve


def test_lock_lists_closure_with_reasons(served: ServedArchive) -> None:
    served.archive.add_deb("base-thing", fields={"Essential": "yes"})
    served.archive.add_deb("app", "2:1.0-1", architecture="amd64", depends="lib (>= 1), helper | other")
    served.archive.add_deb("lib", "1.2")
    served.archive.add_deb("helper")
    served.archive.add_deb("unrelated")
    served.archive.publish("trixie", date=1_700_000_000)
    lock = served.lock("app")
    assert {row.name: row.why for row in lock.rows} == {
        "app": "requested",
        "base-thing": "essential",
        "helper": "app",
        "lib": "app",
    }
    assert lock.epoch == 1_700_000_000
    (record,) = lock.archives
    assert record.signer == served.archive.signers[0]
    files = served.store.fetch(lock.rows, served.keys, served.progress, lock.snapshots)
    assert {row.name for row in files} == {row.name for row in lock.rows}


def test_unknown_package_is_named(served: ServedArchive) -> None:
    served.archive.publish("trixie")
    with pytest.raises(RecipeError, match="no package nonesuch"):
        served.lock("nonesuch")


def test_virtual_package_is_refused_with_a_hint(served: ServedArchive) -> None:
    served.archive.add_deb("postfix", fields={"Provides": "mail"})
    served.archive.publish("trixie")
    with pytest.raises(RecipeError, match=r"no package mail .* virtual package; name one of postfix"):
        served.lock("mail")


def test_unmet_dependency_is_named(served: ServedArchive) -> None:
    served.archive.add_deb("app", depends="lib")
    served.archive.add_deb("lib", depends="deep (>= 2) | other")
    served.archive.add_deb("deep", "1")
    served.archive.publish("trixie")
    with pytest.raises(RecipeError, match=r"lib 1\.0 needs deep \(>= 2\) \| other, which no archive offers"):
        served.lock("app")


@pytest.mark.parametrize("order", [1, -1])
def test_a_replay_is_told_by_the_latest_of_several_locks(served: ServedArchive, order: int) -> None:
    served.archive.add_deb("app")
    served.archive.publish("trixie", date=1_700_000_000)
    earlier = served.lock("app").archives
    served.archive.publish("trixie", date=1_700_000_200)
    latest = served.lock("app").archives
    served.archive.publish("trixie", date=1_700_000_100)
    since = [*earlier, *latest][::order]
    with pytest.raises(TrustError, match="older"):
        make_lock.fetch_indexes(served.keys, served.store, "trixie", "amd64", served.progress, since=since)


def test_unknown_suite(served: ServedArchive) -> None:
    with pytest.raises(RecipeError, match="no archive that serves the suite sid"):
        make_lock.fetch_indexes(served.keys, served.store, "sid", "amd64", served.progress)


def test_downgrade_is_refused_unless_allowed(served: ServedArchive) -> None:
    served.archive.add_deb("app", "2.0")
    served.archive.add_deb("other", "1.0")
    served.archive.publish("trixie", date=1_700_000_000)
    old = served.lock("app", "other")
    served.archive.stanzas.clear()
    served.archive.add_deb("app", "1.0")
    served.archive.add_deb("other", "1.1")
    served.archive.publish("trixie", date=1_700_000_100)
    with pytest.raises(TrustError, match=r"downgraded app 2\.0 -> 1\.0.*--allow-downgrade"):
        served.lock("app", "other", old=old)
    assert served.lock("app", "other", old=old, allow_downgrade=True).rows[0].version == "1.0"


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("SHA256", None, "no usable 'SHA256' of app"),
        ("Size", "many", "no usable 'Size' of app: 'many'"),
        ("Size", "1_0", "no usable 'Size' of app: '1_0'"),
        ("Size", "+10", "no usable 'Size' of app"),
        ("Size", "²", "no usable 'Size' of app"),
        ("Size", "9" * 5000, "no usable 'Size' of app: '9{40}'"),
        ("Size", "1000000000000000000", "the size of app is 1000000000000000000"),
        ("Version", "1." * 50_000 + "1", r"the version of app is malformed: '[1.]{80}'\.$"),
        ("Filename", "a/" * 50_000 + "x", r"the path of app is malformed: '[a/]{80}'\.$"),
        ("Filename", "../../etc/passwd", "leads out of the archive"),
        ("SHA256", "abc", "the sha256 of app is malformed"),
    ],
)
def test_index_that_cannot_be_right(
    served: ServedArchive, field: str, value: str | None, complaint: str
) -> None:
    served.archive.add_deb("app")
    stanza = served.archive.stanzas[0]
    if value is None:
        del stanza[field]
    else:
        stanza[field] = value
    served.archive.publish("trixie")
    with pytest.raises(TrustError, match=complaint):
        served.lock("app")


def test_child_adds_to_its_parent(served: ServedArchive) -> None:
    served.archive.add_deb("core", fields={"Essential": "yes"})
    served.archive.add_deb("lib")
    served.archive.add_deb("app", depends="lib, core, helper")
    served.archive.add_deb("helper")
    served.archive.publish("trixie")
    found = served.fetch_indexes()
    parent = make_lock.make(found, [Request("lib")], image="base")
    child = make_lock.make(found, [Request("app"), Request("lib")], image="child", parent_rows=parent.rows)
    assert [row.name for row in parent.rows] == ["core", "lib"]
    assert [(row.name, row.why) for row in child.rows] == [("app", "requested"), ("helper", "app")]


def test_parent_of_another_time_is_refused(served: ServedArchive) -> None:
    served.archive.add_deb("lib")
    served.archive.publish("trixie")
    found = served.fetch_indexes()
    parent = make_lock.make(found, [Request("lib")], image="base")
    moved = [replace(row, sha256="0" * 64) for row in parent.rows]
    with pytest.raises(RecipeError, match=r"The parent's lock has lib 1\.0.*Lock the parent first"):
        make_lock.make(found, [Request("lib")], image="child", parent_rows=moved)


def test_epoch_and_snapshot_time_follow_the_latest_release(served: ServedArchive, tmp_path: Path) -> None:
    served.archive.publish("trixie", date=1_700_000_000)
    served.archive.publish("trixie-updates", date=1_700_086_400)
    pin = Pin(
        "debian",
        served.archive,
        served.server.url,
        suites={"trixie": ["trixie", "trixie-updates"]},
        snapshot="http://127.0.0.1:1/{time}",
    )
    served.project = make_project(tmp_path / "both", pin)
    lock = served.lock()
    assert lock.epoch == 1_700_086_400
    # Twelve hours after 2023-11-15T22:13:20Z, for both.
    assert {record.suite: record.snapshot for record in lock.archives} == {
        "trixie": "20231116T101320Z",
        "trixie-updates": "20231116T101320Z",
    }


@dataclass
class Two:
    """Debian's archive and, only on request, Docker's; both offer `shared`, and Docker's a later version."""

    debian: ArchiveBuilder
    docker: ArchiveBuilder
    served: ServedArchive

    def lock(self, *requests: Request, engine: str = "docker-ce") -> Lock:
        self.debian.publish("trixie")
        self.docker.publish("trixie", component="stable")
        served = self.served
        found = make_lock.fetch_indexes(
            served.keys, served.store, "trixie", "amd64", served.progress, archives=["docker"]
        )
        return make_lock.make(found, requests, image="dind", engine=engine)

    def records(self, lock: Lock) -> dict[str, str]:
        return {row.name: row.archive for row in lock.rows}


@pytest.fixture
def two(served: ServedArchive, tmp_path: Path, key_ring: KeyRing) -> Iterator[Two]:
    docker = ArchiveBuilder(tmp_path / "docker", key_ring, key_ring.make("Docker"))
    served.archive.add_deb("iptables")
    served.archive.add_deb("shared", "1.0")
    served.archive.add_deb("user", depends="shared")
    served.archive.add_deb("dreamer", depends="docker-ce")
    docker.add_deb("docker-ce", "5:1.0", depends="containerd.io, iptables")
    docker.add_deb("containerd.io")
    docker.add_deb("iptables", "9.0")
    docker.add_deb("shared", "9.0")
    with serve(docker.folder) as server:
        served.project = make_project(
            tmp_path / "two",
            Pin("debian", served.archive, served.server.url),
            Pin("docker", docker, server.url, components=["stable"], on_request=True),
        )
        yield Two(served.archive, docker, served)


def test_archives_do_not_mix(two: Two) -> None:
    lock = two.lock(Request("docker-ce", "docker"), Request("user"))
    assert two.records(lock) == {
        "docker-ce": "docker",
        "containerd.io": "docker",
        "iptables": "debian",
        "shared": "debian",
        "user": "debian",
    }
    assert {record.archive for record in lock.archives} == {"debian", "docker"}


def test_package_of_both_comes_from_the_archive_asked_for(two: Two) -> None:
    lock = two.lock(Request("user"), Request("shared", "docker"))
    assert two.records(lock) == {"shared": "docker", "user": "debian"}


def test_archive_that_nobody_asked_for_is_not_used(two: Two) -> None:
    lock = two.lock(Request("user"), engine="docker.io")
    assert two.records(lock) == {"shared": "debian", "user": "debian"}
    assert {record.archive for record in lock.archives} == {"debian"}
    with pytest.raises(RecipeError, match="no package docker-ce"):
        two.lock(Request("docker-ce"))


def test_debian_package_does_not_draw_from_an_archive_on_request(two: Two) -> None:
    with pytest.raises(RecipeError, match=r"dreamer .*needs docker-ce, which no archive offers"):
        two.lock(Request("dreamer"), Request("containerd.io", "docker"))
