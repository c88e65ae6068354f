"""Builds from a real archive on loopback: what goes right, what is refused, and what is left afterwards."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from dindkit.errors import RecipeError
from dindkit.formats import capabilities
from dindkit.formats.deb import DebError
from dindkit.formats.image_archive import open_archive
from dindkit.formats.tree import ContentStore, Tree
from dindkit.image import sbom, seal
from dindkit.image.build import BuildOptions, Built, build_and_write
from dindkit.image.output import Output
from dindkit.packages import lock as locks
from dindkit.packages.download_cache import GoneError
from dindkit.progress import Progress
from dindkit.sandbox.interface import SandboxError
from tests.support.deb import Files
from tests.support.killed_sandbox import leftovers
from tests.support.local_project import LocalProject

HERE = Path(__file__).parents[2]


def tree_of(built: Built, contents: ContentStore) -> Tree:
    with open_archive(built.archive) as archive:
        return archive.tree(contents)


def lock_file(local_project: LocalProject, image: str = "app") -> Path:
    (path,) = (local_project.project.images / image).glob("*.lock")
    return path


def publish_greeter(
    local_project: LocalProject,
    version: str,
    files: Files | None = None,
    scripts: Mapping[str, str] | None = None,
) -> None:
    """Let the archive have another version of greeter, and only that."""
    local_project.archive.stanzas[:] = [
        one for one in local_project.archive.stanzas if one["Package"] != "greeter"
    ]
    local_project.archive.add_deb("greeter", version, files=files, scripts=scripts)
    local_project.publish()


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


def test_every_time_is_the_locks_at_most(local_project: LocalProject, contents: ContentStore) -> None:
    built = local_project.build()
    epoch = max(locks.read(lock_file(local_project, image)).epoch for image in ("app", "base"))
    times = {entry.mtime for entry in tree_of(built, contents).entries.values()}
    assert max(times) == epoch


def test_output_is_the_archive(local_project: LocalProject, tmp_path: Path) -> None:
    target = tmp_path / "new" / "app.tar"
    target.parent.mkdir()
    built, _ = build_and_write(
        local_project.project, BuildOptions(image="app"), Progress(local_project.said), Output(target)
    )
    assert os.listdir(target.parent) == ["app.tar"]  # noqa: PTH208 - the name alone
    with open_archive(target) as archive:
        assert archive.image_id == built.image_id
        assert [archive.diff_id(one) for one in archive.image.layers] == [one.diff_id for one in built.layers]
        assert {one.media_type.rpartition("+")[2] for one in archive.image.layers} == {"zstd"}
    first = target.read_bytes()
    build_and_write(
        local_project.project, BuildOptions(image="app"), Progress(local_project.said), Output(target)
    )
    assert target.read_bytes() == first


def test_the_lock_of_another_image_is_refused(local_project: LocalProject) -> None:
    lock_file(local_project).write_bytes(lock_file(local_project, "base").read_bytes())
    with pytest.raises(RecipeError, match=r"is the lock of base for trixie.*Restore it with git"):
        local_project.build()


def test_a_gone_file_fails_a_frozen_build_and_heals_another(local_project: LocalProject) -> None:
    old = lock_file(local_project).read_bytes()
    publish_greeter(local_project, "1.0+gone")
    local_project.lock()
    locked = lock_file(local_project).read_bytes()
    (row,) = locks.read(lock_file(local_project)).rows
    (local_project.archive.folder / row.path).unlink()
    publish_greeter(local_project, "2.0", files={"usr/bin/greet": "new"})
    with pytest.raises(GoneError, match=r"greeter 1\.0\+gone"):
        local_project.build(frozen=True)
    with pytest.raises(GoneError):  # an image that is solved anew has other ids than this lock
        seal.seal(local_project.project, BuildOptions(image="app"), Progress(local_project.said))
    solved = local_project.build()
    assert not solved.from_lock
    assert "1.0+gone -> 2.0" in local_project.said.getvalue()
    assert lock_file(local_project).read_bytes() == locked != old
    with open_archive(solved.archive) as archive:
        assert archive.image.config["config"]["Labels"]["dindkit.from-lock"] == "false"


@pytest.mark.parametrize(
    ("name", "said"),
    [("./../escaped", "greeter.*leads outside"), ("/etc/owned", "greeter.*leads outside")],
)
def test_a_package_that_climbs_out_is_refused(local_project: LocalProject, name: str, said: str) -> None:
    local_project.archive.stanzas[:] = [
        one for one in local_project.archive.stanzas if one["Package"] != "greeter"
    ]
    local_project.archive.add_deb("greeter", "3.0", members=[(tarfile.TarInfo(name), b"")])
    local_project.publish()
    local_project.lock()
    before = local_project.images()
    with pytest.raises(DebError, match=said):
        local_project.build()
    assert local_project.images() == before


def test_a_package_that_is_not_what_its_index_says_is_refused(local_project: LocalProject) -> None:
    local_project.archive.stanzas[:] = [
        one for one in local_project.archive.stanzas if one["Package"] != "greeter"
    ]
    local_project.archive.add_deb("greeter", "3.1", inside={"Version": "3.2"})
    local_project.publish()
    local_project.lock()
    with pytest.raises(DebError, match=r"its Version is 3\.2, the lock says 3\.1"):
        local_project.build()


def test_a_path_through_a_link_of_base_is_refused(local_project: LocalProject) -> None:
    publish_greeter(local_project, "3.3", files={"var/run/x": "x"})  # base's /var/run is a link to /run
    local_project.lock()
    with pytest.raises(DebError, match=r"var/run/x leads through the link var/run"):
        local_project.build()


def test_a_failing_maintainer_script_is_quoted(local_project: LocalProject) -> None:
    publish_greeter(
        local_project, "3.4", scripts={"postinst": "#!/bin/sh\necho the moon is full >&2\nexit 1\n"}
    )
    local_project.lock()
    before = local_project.images()
    with pytest.raises(SandboxError, match=r"maintainer script failed.*greeter"):
        local_project.build()
    assert local_project.images() == before


def test_a_lock_without_a_row_that_is_needed(local_project: LocalProject) -> None:
    local_project.archive.stanzas[:] = [
        one for one in local_project.archive.stanzas if one["Package"] != "greeter"
    ]
    local_project.archive.add_deb("greeter", "4.0", depends="helper")
    local_project.archive.add_deb("helper", "1.0")
    local_project.publish()
    local_project.lock()
    lock = locks.read(lock_file(local_project))
    assert [row.name for row in lock.rows] == ["greeter", "helper"]
    locks.write(replace(lock, rows=lock.rows[:1]), lock_file(local_project))
    with pytest.raises(RecipeError, match="greeter needs helper"):
        local_project.build()


def test_a_lock_over_another_parent(local_project: LocalProject) -> None:
    base = locks.read(lock_file(local_project, "base"))
    locks.write(replace(base, epoch=base.epoch + 1), lock_file(local_project, "base"))
    with pytest.raises(RecipeError, match="made over another lock of base"):
        local_project.build()


BUILD = """
import sys
from pathlib import Path
from dindkit.errors import DindkitError
from dindkit.image.build import BuildOptions, build
from dindkit.progress import Progress
from dindkit.project import Project
root, state, cache, image = sys.argv[1:]
try:
    project = Project(Path(root), Path(state), Path(cache))
    print(build(project, BuildOptions(image=image), Progress()).image_id)
except (DindkitError, OSError) as error:
    sys.exit(f"error: {error}")
"""


def command(local_project: LocalProject, state: Path, image: str = "app") -> list[str]:
    project = local_project.project
    return [sys.executable, "-c", BUILD, str(project.root), str(state), str(project.cache), image]


def start(local_project: LocalProject, state: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(local_project, state),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(HERE)},
    )


def state_with_base(local_project: LocalProject, folder: Path) -> Path:
    """Return a state folder of its own, in which base is built already."""
    built = local_project.build("base")
    shutil.copytree(built.folder, folder / "images" / built.folder.name)
    for layer in built.layers:
        kept = built.store.path(layer.diff_id).parent
        shutil.copytree(kept, folder / "layers" / kept.name)
    return folder


def test_two_builds_at_once_make_one_image(local_project: LocalProject, tmp_path: Path) -> None:
    state = state_with_base(local_project, tmp_path / "state")
    builds = [start(local_project, state) for _ in range(2)]
    said = [one.communicate() for one in builds]
    assert [one.returncode for one in builds] == [0, 0], said
    assert said[0][0] == said[1][0]
    assert sum("configure app" in errors for _, errors in said) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize(
    ("step", "pause"),
    [
        ("download packages", 0.0),
        ("check packages of app", 0.0),
        ("check packages of app", 2.0),
        ("configure app", 0.0),
    ],
)
def test_interrupted_it_leaves_nothing_half_made(
    local_project: LocalProject, tmp_path: Path, number: signal.Signals, step: str, pause: float
) -> None:
    """A line comes when its step is done, so that the signal hits the one after it."""
    state = state_with_base(local_project, tmp_path / "state")
    before = {path.name for path in (state / "images").iterdir()}
    running = start(local_project, state)
    assert running.stderr
    for line in running.stderr:
        if line.startswith(step):
            break
    time.sleep(pause)
    running.send_signal(number)
    running.communicate(timeout=60)
    for folder in (state / "images").iterdir():
        if folder.name not in before and (folder / "built.json").is_file():  # it was quicker than the signal
            assert len(json.loads((folder / "built.json").read_text())["layers"]) == 3
    if number == signal.SIGINT:  # SIGTERM is turned into the same by the command line; SIGKILL by nobody
        assert list((state / "tmp").glob("*")) == []
    deadline = time.monotonic() + 20
    while leftovers(state) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert leftovers(state) == []
    again = start(local_project, state)
    said = again.communicate(timeout=200)
    assert again.returncode == 0, said
    assert list((state / "tmp").iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small file system")
def test_no_space_is_a_sentence_and_leaves_nothing(local_project: LocalProject, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    limited = ["unshare", "--mount", "sh", "-euc"]
    mount = f"mount -t tmpfs -o size=60m,mode=755 small {state}"
    left = f"find {state} -path {state}/code -prune -o -type f -print"  # digests of our modules are whole
    script = f'{mount}; code=0; "$@" || code=$?; {left}; exit $code'
    done = subprocess.run(
        [*limited, script, "sh", *command(local_project, state, "base")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(HERE)},
    )
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert {Path(line).name for line in done.stdout.splitlines()} <= {"lock"}


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
