"""Packages that would write on the host: refused three times over, and held to each of the three alone."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from dindkit.errors import DamagedError, DindkitError, TrustError
from dindkit.formats.contents import ContentStore
from dindkit.formats.deb import Deb, DebError
from dindkit.formats.entry import Entry
from dindkit.formats.tar_writer import Writer
from dindkit.formats.tree import Tree, TreeError
from dindkit.image import assemble, built, locking, state_keys
from dindkit.image.build_options import BuildOptions, resolve
from dindkit.image.staging import Staging
from dindkit.packages import keys
from dindkit.packages import lock as locks
from dindkit.packages.download_cache import DownloadCache
from dindkit.packages.lock import Row
from dindkit.progress import Progress, Step
from dindkit.sandbox import namespaces
from dindkit.sandbox.interface import SandboxError, ScriptRun
from dindkit.sandbox.namespaces import Namespaces
from tests.support.archive import ArchiveBuilder, KeyRing, Pin, make_project, serve
from tests.support.build_process import BUILD, HERE
from tests.support.deb import Link, Members, build
from tests.support.local_project import LocalProject, lock_file, publish_greeter
from tests.support.odd_files import something_else

MARKER = "dindkit-test-marker"


def hostile(name: str, files: dict[str, str | Link], folder: Path, members: Members = ()) -> dict[Row, Path]:
    """Return one package as the image's code knows it."""
    control = {"Package": name, "Version": "1.0", "Architecture": "all", "Description": "x"}
    path = folder / f"{name}.deb"
    path.write_bytes(build(control, files, {}, members))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {Row(name, "1.0", "all", path.stat().st_size, digest, f"{name}.deb", "debian", "essential"): path}


@pytest.mark.skipif(
    os.geteuid() != 0, reason="needs root to hide the host's own /usr/sbin from a failing test"
)
def test_a_package_puts_no_file_on_the_host(key_ring: KeyRing, tmp_path: Path) -> None:
    """The real thing from end to end: lock, download, check, build. Where it fails it writes into a tmpfs."""
    archive = ArchiveBuilder(tmp_path / "archive", key_ring, key_ring.make())
    member = tarfile.TarInfo(f"./sbin/{MARKER}")
    member.mode = 0o4755
    essential = {"Essential": "yes"}
    archive.add_deb("base-files", fields=essential, files={"sbin": Link("/usr/sbin")})
    archive.add_deb("evil", fields=essential, members=[(member, b"")])
    archive.publish("trixie")
    with serve(archive.folder) as server:
        project = make_project(tmp_path / "project", Pin("debian", archive, server.url))
        (project.images / "base").mkdir(parents=True)
        (project.images / "base" / "image.toml").write_text("essential = true\npackages = []\n")
        locking.lock(project, BuildOptions(image="base"), Progress(quiet=True))
        words = [str(project.root), str(project.state), str(project.cache), "base"]
        script = 'mount -t tmpfs none /usr/sbin; code=0; "$@" || code=$?; ls /usr/sbin; exit $code'
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-euc", script, "sh", sys.executable, "-c", BUILD, *words],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(HERE)},
        )
    assert done.stdout == ""
    assert not Path("/usr/sbin", MARKER).exists()
    assert done.returncode == 1
    assert f"evil is refused: its path sbin/{MARKER} leads through the link sbin of base-files" in done.stderr


@pytest.fixture
def staged(tmp_path: Path) -> Iterator[Callable[[dict[Row, Path]], list[Deb]]]:
    """Check packages each for itself: `staged(files)`."""
    with Staging(tmp_path / "staging") as staging:

        def checked(files: dict[Row, Path]) -> list[Deb]:
            for row, path in files.items():
                staging.begin(row, path)
            return staging.checked(files, Step(None, None))

        yield checked


Staged = Callable[[dict[Row, Path]], list[Deb]]


def refused_when_checked(debs: list[Deb], _spool: ContentStore) -> None:
    assemble.check(debs, None)


def refused_by_the_tree(debs: list[Deb], contents: ContentStore) -> None:
    assemble.bootstrap(debs, assemble.Rules((), ()), contents)


@pytest.mark.parametrize(
    ("check", "error"), [(refused_when_checked, DebError), (refused_by_the_tree, TreeError)]
)
def test_each_of_the_checks_alone(
    tmp_path: Path,
    contents: ContentStore,
    staged: Staged,
    check: Callable[[list[Deb], ContentStore], None],
    error: type[Exception],
) -> None:
    files = hostile("base-files", {"sbin": Link("/usr/sbin")}, tmp_path)
    files |= hostile("evil", {f"sbin/{MARKER}": "x"}, tmp_path)
    with pytest.raises(error, match=MARKER):
        check(staged(files), contents)


@pytest.mark.parametrize("path", ["etc/dpkg/dpkg.cfg.d", "etc/dpkg", "var/lib/dpkg", "usr/sbin", "usr"])
def test_a_link_where_the_builder_itself_writes(
    tmp_path: Path, contents: ContentStore, staged: Staged, path: str
) -> None:
    """No package has a path below it, so that nothing is wrong with the packages among themselves."""
    debs = staged(hostile("evil", {path: Link("/tmp")}, tmp_path))
    assemble.check(debs, None)

    def write() -> None:
        tree = assemble.bootstrap(debs, assemble.Rules((), ()), contents)
        tree.put("etc/dpkg/dpkg.cfg.d/dindkit-base", "")
        tree.put(assemble.POLICY, "")

    with pytest.raises(TreeError, match=f"'{path}' is a symlink"):
        write()


def test_a_file_below_the_links_of_merged_usr_is_put_below_usr(
    tmp_path: Path, contents: ContentStore, staged: Staged
) -> None:
    files = hostile("base-files", {"lib": Link("usr/lib"), "usr/lib/x": "x"}, tmp_path)
    twin = tarfile.TarInfo("./lib/twin")
    twin.type, twin.linkname = tarfile.LNKTYPE, "./lib/old"
    files |= hostile("old", {"lib/old": "old"}, tmp_path, [(twin, b"")])
    tree = assemble.bootstrap(staged(files), assemble.Rules((), ()), contents)
    assert (tree.text("usr/lib/old"), tree.entries["usr/lib/twin"].link) == ("old", "usr/lib/old")
    assert tree.entries["lib"].link == "usr/lib"


def feed_raw(out: IO[bytes], outside: Path) -> None:
    """Write what no check has seen: a link that leads outside, and a set-uid file below it."""
    writer = Writer(out)
    writer.add(Entry("", "dir", 0o755))
    writer.add(Entry("sbin", "symlink", 0o777, link=str(outside)))
    writer.add(Entry(f"sbin/{MARKER}", "file", 0o4755, size=4), [b"evil"])
    writer.close()


#: Stands in for an unpacker that follows links, as it was: every other guard is off then.
FOLLOWING = """\
import sys
sys.path.insert(0, sys.argv.pop(1))
from dindkit.sandbox import worker
def unpack(stream, folder):
    with worker.tarfile.open(fileobj=stream, mode="r|") as members:
        for member in members:
            path = f"{folder}/{member.name}"
            if member.issym():
                worker.os.symlink(member.linkname, path)
            elif member.isfile():
                worker.os.makedirs(worker.os.path.dirname(worker.os.path.realpath(path)), exist_ok=True)
                with open(path, "wb") as file:
                    file.write(members.extractfile(member).read())
worker.unpack = unpack
sys.exit(worker.main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("program", [namespaces.RUN_WORKER, FOLLOWING])
def test_the_worker_cannot_reach_the_host_whatever_it_is_fed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    """The second program follows links, but nothing of the host is in sight when it begins."""
    outside = tmp_path / "outside"
    outside.mkdir()
    monkeypatch.setattr(namespaces, "RUN_WORKER", program)
    with pytest.raises(SandboxError):
        Namespaces(tmp_path / "sandbox").run(
            ScriptRun(
                lambda out: feed_raw(out, outside), "true", lambda stream: stream.read(), {}, 50_000_000
            )
        )
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("name", ["dev", "proc"])
def test_a_tree_whose_dev_or_proc_is_a_link(tmp_path: Path, shell_tree: Tree, name: str) -> None:
    (tmp_path / "outside").mkdir()
    tree = Tree(shell_tree.contents, shell_tree.entries.values())
    tree.remove(name)
    tree.add(Entry(name, "symlink", 0o777, link=str(tmp_path / "outside")))
    with pytest.raises(SandboxError, match=f"no folder here: '/{name}'"):
        Namespaces(tmp_path / "sandbox").run(
            ScriptRun(tree.write, "true", lambda stream: stream.read(), {}, 500_000_000)
        )


def cached(local_project: LocalProject) -> Path:
    """Return greeter's file in the cache, after it was locked and downloaded."""
    (row,) = locks.read(lock_file(local_project)).rows
    store = DownloadCache(local_project.project.cache)
    store.fetch([row], keys.load(local_project.project.keys), Progress(quiet=True))
    return store.path(row.sha256)


@pytest.mark.parametrize("how", ["replaced", "written over"])
def test_a_package_swapped_in_the_cache_after_it_was_hashed(
    tmp_path: Path, contents: ContentStore, staged: Staged, how: str
) -> None:
    """What was hashed is what is unpacked, as dpkg sees it."""
    files = hostile("honest", {"usr/bin/honest": "good"}, tmp_path)
    (path,) = files.values()
    evil = next(iter(hostile("evil", {"usr/bin/honest": "evil"}, tmp_path).values())).read_bytes()
    (checked,) = staged(files)
    assert checked.name == "honest"
    if how == "replaced":
        path.unlink()
    path.write_bytes(evil)
    tree = assemble.bootstrap([checked], assemble.Rules((), ()), contents)
    assert tree.text("usr/bin/honest") == "good"
    shown = ["dpkg-deb", "--fsys-tarfile", str(checked.file)]
    unpacked = subprocess.run(shown, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(unpacked)) as archive:
        content = archive.extractfile("./usr/bin/honest")
        assert content is not None
        assert content.read() == b"good"


def test_a_checked_package_that_was_written_over_is_not_read(
    tmp_path: Path, contents: ContentStore, staged: Staged
) -> None:
    (checked,) = staged(hostile("honest", {"usr/bin/honest": "something else"}, tmp_path))
    checked.file.write_bytes(checked.file.read_bytes().replace(b"something else", b"something evil"))
    tree = assemble.bootstrap([checked], assemble.Rules((), ()), contents)
    with pytest.raises(DamagedError, match="is damaged or forged"):
        tree.text("usr/bin/honest")


@pytest.mark.parametrize("how", ["replaced", "longer", "shorter", "endless"])
def test_a_build_refuses_a_package_swapped_between_download_and_use(
    local_project: LocalProject, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The swap happens as soon as the store has found the right hash: a build must look again."""
    publish_greeter(local_project, f"4.{len(how)}")
    local_project.lock()
    path = cached(local_project)
    right = path.read_bytes()
    wrong = {"replaced": right[:-1] + b"!", "longer": right + b"!", "shorter": right[:-1], "endless": right}[
        how
    ]
    begin = Staging.begin

    def swapped(self: Staging, row: Row, found: Path) -> None:
        if found == path:
            path.write_bytes(wrong)
            if how == "endless":
                with path.open("ab") as file:
                    file.truncate(1 << 40)
        begin(self, row, found)

    monkeypatch.setattr(Staging, "begin", swapped)
    before = local_project.images()
    with pytest.raises(
        TrustError, match=r"greeter was changed after it was downloaded: .* is not what the lock"
    ):
        local_project.build()
    assert local_project.images() == before
    path.write_bytes(right)


@pytest.mark.parametrize("kind", ["pipe", "folder", "symbolic link", "device", "socket"])
def test_what_is_no_file_in_a_cached_files_place(local_project: LocalProject, kind: str) -> None:
    """A link to the right bytes counts too: whoever owns their place can swap them."""
    publish_greeter(local_project, f"5.{len(kind)}")
    local_project.lock()
    path = cached(local_project)
    with something_else(path, kind), pytest.raises(DindkitError, match=f"There is a {kind} at {path}"):
        local_project.build()


@pytest.mark.parametrize("kind", ["pipe", "folder", "symbolic link", "device", "socket"])
def test_what_is_no_file_in_a_locks_place(local_project: LocalProject, tmp_path: Path, kind: str) -> None:
    """A lock that is a link is not followed: its target would be emptied, or made."""
    publish_greeter(local_project, f"6.{len(kind)}")
    local_project.lock()
    made = resolve(local_project.project, BuildOptions(image="app"))[-1]
    image = built.folder(local_project.project, "app", state_keys.image(local_project.project, made))
    packages = (
        local_project.project.state
        / "packages"
        / f"app-{state_keys.packages(local_project.project, made)[:32]}"
    )
    for folder in (image, packages):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "lock").write_text("")
        with (
            something_else(folder / "lock", kind),
            pytest.raises(DindkitError, match=f"There is a {kind} at"),
        ):
            local_project.build()
