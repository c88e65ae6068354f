"""Builds from a real archive on loopback: what is in the image, and what is said of it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from dindkit.errors import RecipeError
from dindkit.formats import capabilities
from dindkit.formats.contents import ContentStore
from dindkit.formats.image_archive import open_archive
from dindkit.image import sbom
from dindkit.image.build import BuildOptions, build_and_write
from dindkit.image.output import Output
from dindkit.packages import lock as locks
from dindkit.progress import Progress
from tests.support.local_project import LocalProject, lock_file, publish_greeter, tree_of


def test_maintainer_scripts_run_and_the_layer_holds_only_what_is_new(
    local_project: LocalProject, contents: ContentStore
) -> None:
    publish_greeter(
        local_project,
        "1.1",
        files={"etc/greeting": "hello\n", "usr/share/doc/greeter/README": "left out"},
        scripts={
            "conffiles": "/etc/greeting\n",
            "preinst": "#!/bin/sh\necho pre >/var/lib/order\n",
            "postinst": "#!/bin/sh\necho post >>/var/lib/order\ncat /etc/greeting >/var/lib/greeted\n",
        },
    )
    local_project.lock()
    built = local_project.build()
    tree = tree_of(built, contents)
    assert tree.text("var/lib/order") == "pre\npost\n"
    assert tree.text("var/lib/greeted") == "hello\n"
    assert "usr/share/doc/greeter/README" not in tree.entries
    assert "usr/share/doc/greeter/copyright" in tree.entries  # base's include rule
    assert "Conffiles:\n /etc/greeting " in tree.text("var/lib/dpkg/status")
    with open_archive(built.archive) as archive:
        layer = [entry.path for entry in archive.entries(archive.image.layers[2], contents)]
    assert "etc/greeting" in layer
    assert "usr/bin/dash" not in layer
    assert built.packages == 70
    assert not [path for path in tree.entries if path.startswith(".dindkit")]


def test_what_is_built_is_looked_up(local_project: LocalProject) -> None:
    first = local_project.build()
    local_project.said.truncate(0)
    assert local_project.build() == first
    assert "configure" not in local_project.said.getvalue()


def test_files_links_and_accounts_of_the_recipe(local_project: LocalProject, contents: ContentStore) -> None:
    folder = local_project.project.images / "app"
    (folder / "image.toml").write_text(
        'parent = "base"\npackages = ["greeter"]\n'
        '[folders]\n"/srv/shared" = "1777"\n[links]\n"/usr/local/bin/hi" = "/usr/bin/greet"\n'
        "[groups]\ncrew = 2375\n[users.mate]\nuid = 237\ngid = 237\nsubids = [165536, 65536]\n"
    )
    (folder / "rootfs" / "usr" / "local").mkdir(parents=True, exist_ok=True)
    (folder / "rootfs" / "usr" / "local" / "run").write_text("#!/bin/sh\n")
    (folder / "rootfs" / "usr" / "local" / "run").chmod(0o700)
    scripts = {"postinst": "#!/bin/sh\ngetent group crew >/var/lib/found\n"}
    publish_greeter(local_project, "1.2", files={"usr/bin/greet": "x"}, scripts=scripts)
    local_project.lock()
    tree = tree_of(local_project.build(), contents)
    assert tree.entries["srv/shared"].mode == 0o1777
    assert tree.entries["usr/local/bin/hi"].link == "/usr/bin/greet"
    assert tree.entries["usr/local/run"].mode == 0o755
    assert tree.text("var/lib/found") == "crew:*:2375:\n"
    assert "mate:*:237:237::/nonexistent:/usr/sbin/nologin\n" in tree.text("etc/passwd")
    assert tree.text("etc/subuid") == tree.text("etc/subgid") == "mate:165536:65536\n"


def test_groups_and_files_of_a_user(local_project: LocalProject, contents: ContentStore) -> None:
    folder = local_project.project.images / "app"
    recipe = (
        'parent = "base"\npackages = ["greeter"]\n'
        '[folders]\n"/home/mate" = "0755"\n[owners]\n"/home/mate" = "mate"\n'
        "[groups]\ncrew = 2375\n[users.mate]\nuid = 1000\ngid = 1000\ngroups = {}\n"
    )
    (folder / "image.toml").write_text(recipe.format(["crew", "root"]))
    for name in ("home/mate/.profile", "home/other"):
        (folder / "rootfs" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "rootfs" / name).write_text("hi\n")
    publish_greeter(local_project, "1.3", files={"usr/bin/greet": "x"})
    local_project.lock()
    tree = tree_of(local_project.build(), contents)
    groups = dict(line.split(":", 1) for line in tree.text("etc/group").splitlines())
    assert (groups["crew"].split(":")[-1], groups["root"].split(":")[-1]) == ("mate", "mate")
    assert tree.entries["home/mate/.profile"].uid == tree.entries["home/mate"].uid == 1000
    assert tree.entries["home/other"].uid == 0
    (folder / "image.toml").write_text(recipe.format(["crew", "sailors"]))
    with pytest.raises(RecipeError, match="puts mate into the group sailors, which is not there"):
        local_project.build()


def test_owners_and_capabilities_of_the_recipe(local_project: LocalProject, contents: ContentStore) -> None:
    recipe = (
        'parent = "base"\npackages = ["greeter"]\n'
        '[folders]\n"/home/mate" = "0750"\n"/run/user" = "1777"\n[owners]\n"/home/mate" = "mate"\n'
        '[users.mate]\nuid = 1000\ngid = 1000\n[links]\n"/run/app.sock" = "user/app.sock"\n'
        '[capabilities]\n"/usr/bin/greet" = "cap_setuid=ep"\n'
    )
    file = local_project.project.images / "app" / "image.toml"
    file.write_text(recipe)
    scripts = {"postinst": "#!/bin/sh\nchmod 4755 /usr/bin/greet\n"}
    publish_greeter(local_project, "1.3", files={"usr/bin/greet": "x"}, scripts=scripts)
    local_project.lock()
    tree = tree_of(local_project.build(), contents)
    home, program = tree.entries["home/mate"], tree.entries["usr/bin/greet"]
    assert (home.uid, home.gid, home.mode) == (1000, 1000, 0o750)
    assert (program.mode, tree.text(program.path)) == (0o755, "x")
    assert capabilities.decode(program.capability) == "cap_setuid=ep"
    assert tree.entries["run/user"].mode == 0o1777
    assert tree.entries["run/app.sock"].link == "user/app.sock"
    file.write_text(recipe.replace("/usr/bin/greet", "/usr/bin/great"))
    with pytest.raises(RecipeError, match="capabilities to /usr/bin/great, which no package brings"):
        local_project.build()


@pytest.mark.parametrize("name", ["greet", "hello", "welcome"])
def test_capabilities_are_those_of_all_names_of_a_file(
    local_project: LocalProject, contents: ContentStore, name: str
) -> None:
    recipe = f'parent = "base"\npackages = ["greeter"]\n[capabilities]\n"/usr/bin/{name}" = "cap_setuid=ep"\n'
    (local_project.project.images / "app" / "image.toml").write_text(recipe)
    scripts = {
        "postinst": "#!/bin/sh\nfor name in hello welcome; do ln /usr/bin/greet /usr/bin/$name; done\n"
        "chmod 4755 /usr/bin/greet\n"
    }
    publish_greeter(local_project, "1.3", files={"usr/bin/greet": "x"}, scripts=scripts)
    local_project.lock()
    tree = tree_of(local_project.build(), contents)
    names = ["usr/bin/greet", "usr/bin/hello", "usr/bin/welcome"]
    assert tree.hard_links()["usr/bin/greet"] == names
    assert {tree.entries[one].mode for one in names} == {0o755}
    assert capabilities.decode(tree.entries["usr/bin/greet"].capability) == "cap_setuid=ep"


def test_every_time_is_the_locks_at_most(local_project: LocalProject, contents: ContentStore) -> None:
    built = local_project.build()
    epoch = max(locks.read(lock_file(local_project, image)).epoch for image in ("app", "base"))
    times = {entry.mtime for entry in tree_of(built, contents).entries.values()}
    assert max(times) == epoch


def test_output_is_the_archive(small_project: LocalProject, tmp_path: Path) -> None:
    target = tmp_path / "new" / "app.tar"
    target.parent.mkdir()
    built, _ = build_and_write(
        small_project.project, BuildOptions(image="app"), Progress(small_project.said), Output(target)
    )
    assert os.listdir(target.parent) == ["app.tar"]  # noqa: PTH208 - the name alone
    with open_archive(target) as archive:
        assert archive.image_id == built.image_id
        assert [archive.diff_id(one) for one in archive.image.layers] == [one.diff_id for one in built.layers]
        assert {one.media_type.rpartition("+")[2] for one in archive.image.layers} == {"zstd"}
    first = target.read_bytes()
    build_and_write(
        small_project.project, BuildOptions(image="app"), Progress(small_project.said), Output(target)
    )
    assert target.read_bytes() == first


def test_history_labels_and_bill_of_materials(local_project: LocalProject) -> None:
    built = local_project.build()
    with open_archive(built.archive) as archive:
        config = archive.image.config
    assert len(config["history"]) == len(config["rootfs"]["diff_ids"]) == 3
    said = [one["created_by"] for one in config["history"]]
    assert said[1:] == ["dindkit base: files of the recipe", said[2]]
    assert said[2].startswith("dindkit app: 1 packages from debian trixie ")
    labels = config["config"]["Labels"]
    assert labels["dindkit.from-lock"] == "true"
    assert labels["org.opencontainers.image.created"] == config["created"]
    assert len(labels["org.opencontainers.image.revision"]) == 64
    document = json.loads(sbom.read(built))
    row = locks.read(lock_file(local_project)).rows[0]
    (package,) = [one for one in document["packages"] if one["name"] == "greeter"]
    assert package["checksums"] == [{"algorithm": "SHA256", "checksumValue": row.sha256}]
