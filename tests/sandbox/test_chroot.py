"""The sandbox by chroot does what the one of namespaces does, and leaves as little behind."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import IO

import pytest

from dindkit.formats.contents import ContentStore
from dindkit.formats.entry import Entry
from dindkit.formats.tree import Tree, read_tar
from dindkit.sandbox import chroot, chroot_worker, confine
from dindkit.sandbox.chroot import Chroot
from dindkit.sandbox.interface import PACKAGES_FOLDER, NoSandboxError, SandboxError, ScriptRun
from dindkit.sandbox.namespaces import Namespaces
from tests.support.killed_sandbox import kill_and_look
from tests.support.local_project import Run

#: What Docker's default capabilities hold, and all that this sandbox may need: Docker's own list.
DOCKERS = 0xA80425FB

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="changing the root takes root")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "sandbox"


@pytest.fixture
def run(folder: Path, shell_tree: Tree, contents: ContentStore) -> Run:
    """Run a script in a copy of the small tree; return the tree afterwards."""

    def go(script: str, tree: Tree = shell_tree) -> Tree:
        def take(stream: IO[bytes]) -> Tree:
            return Tree(contents, read_tar(stream, contents))

        return Chroot(folder).run(ScriptRun(tree.write, script, take, {"GIVEN": "yes"}, 500_000_000))

    return go


def test_what_a_script_does_comes_back_as_from_namespaces(
    run: Run, shell_tree: Tree, contents: ContentStore, tmp_path: Path
) -> None:
    script = (
        "mkdir -m 1777 /new; echo hi >/new/file; chown 7:8 /new/file; chmod 4755 /new/file; "
        "mkfifo /new/pipe; ln /new/file /new/twin; ln -s /nowhere /new/link; rm /usr/bin/tail; "
        "umask >/umask; env | sort >/env; id >/id; "
        "find /new /etc /tmp -exec touch -d @1 {} +; touch -hd @1 /new/link; "
        "for one in /dev/*; do stat -c '%n %a %t %T' $one; done | grep -v /fd | grep -v /std >/devices; "
        "grep -c . /etc/passwd </dev/null >/dev/null; dd if=/dev/zero bs=3 count=1 of=/zeros 2>/dev/null; "
        "touch -d @1 /umask /env /id /devices /zeros"
    )
    there = Namespaces(tmp_path / "namespaces").run(
        ScriptRun(
            shell_tree.write,
            script,
            lambda stream: Tree(contents, read_tar(stream, contents)),
            {"GIVEN": "yes"},
            500_000_000,
        )
    )
    here = run(script)
    for tree in (here, there):
        for path in ("", "dev", "proc", "usr", "usr/bin"):  # whose times are of this minute
            tree.entries.pop(path, None)
    assert here.entries == there.entries
    assert "GIVEN=yes" in here.text("env")
    assert here.entries["new/file"].mode == 0o4755


def test_what_the_tree_has_at_dev_and_proc_stays(run: Run, shell_tree: Tree) -> None:
    tree = Tree(shell_tree.contents, shell_tree.entries.values())
    tree.put("dev/own", "mine")
    after = run("rm -r /dev /proc; ln -s /etc /dev; echo x >/proc", tree)
    assert after.text("dev/own") == "mine"
    assert (after.entries["dev"].kind, after.entries["proc"].kind) == ("dir", "dir")
    assert not after.below("proc")


def test_capabilities_survive(run: Run, shell_tree: Tree) -> None:
    tree = Tree(shell_tree.contents, shell_tree.entries.values())
    value = bytes.fromhex("0100000200200000000000000000000000000000")  # cap_net_raw=ep, <linux/capability.h>
    tree.entries["usr/bin/cat"] = replace(tree.entries["usr/bin/cat"], capability=value)
    assert run("true", tree).entries["usr/bin/cat"].capability == value


def test_what_a_script_keeps(run: Run) -> None:
    # setpriv reads its own capabilities by system calls; there is no /proc.
    tree = run(
        "setpriv --dump >/dump; ls -A /proc >/processes; "
        "for one in 'chroot / true' 'mknod /disk b 8 0' 'mount -t tmpfs none /tmp' 'unshare --user true'; do "
        "if $one 2>/dev/null; then echo $one >>/done; fi; done"
    )
    bounding = tree.text("dump").partition("Capability bounding set: ")[2].splitlines()[0]
    assert set(bounding.split(",")) == set(confine.KEPT)
    assert "no_new_privs: 1" in tree.text("dump")
    assert tree.text("processes") == ""
    assert "done" not in tree.entries


def test_packages_are_copies_that_scripts_cannot_write_through(
    folder: Path, tmp_path: Path, shell_tree: Tree
) -> None:
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "a.deb").write_text("whole")
    script = f"cat /{PACKAGES_FOLDER}/a.deb >&2; echo x >/{PACKAGES_FOLDER}/a.deb; exit 3"
    with pytest.raises(SandboxError, match="A maintainer script failed: whole"):
        Chroot(folder).run(
            ScriptRun(
                shell_tree.write, script, lambda stream: stream.read(), {}, 0, packages=tmp_path / "packages"
            )
        )
    assert (tmp_path / "packages" / "a.deb").read_text() == "whole"
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("moment", ["feeding", "running", "taking"])
def test_killed_at_any_moment_it_leaves_nothing(
    tmp_path: Path, shell_tree: Tree, number: signal.Signals, moment: str
) -> None:
    kill_and_look(Chroot, tmp_path, shell_tree, number, moment)


def test_what_a_killed_worker_left_goes_with_the_next_run(run: Run, folder: Path) -> None:
    left, other = folder / f"{chroot_worker.PREFIX}left", folder / f"{chroot_worker.PREFIX}other"
    for path in (left, other):
        (path / "tree/deep").mkdir(parents=True)
    (folder / "not-ours").mkdir()
    held = os.open(other, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    try:
        run("true")
    finally:
        os.close(held)
    assert {path.name for path in folder.iterdir()} == {other.name, "not-ours"}


def test_a_tree_deeper_than_python_recurses_goes_too(run: Run, folder: Path) -> None:
    with pytest.raises(SandboxError, match="enough"):
        run("at=0; while [ $at -lt 1500 ]; do mkdir d; cd d; at=$((at + 1)); done; echo enough >&2; exit 1")
    assert list(folder.iterdir()) == []


def test_a_tree_that_writes_on_the_host_is_refused(folder: Path, tmp_path: Path, shell_tree: Tree) -> None:
    tree = Tree(shell_tree.contents, shell_tree.entries.values())
    for path in tree.below("dev"):
        tree.remove(path)
    tree.entries.pop("dev", None)
    tree.add(Entry("dev", "symlink", 0o777, link=str(tmp_path)))
    with pytest.raises(SandboxError, match="the tree has no folder here"):
        Chroot(folder).run(ScriptRun(tree.write, "true", lambda stream: stream.read(), {}, 0))
    assert not (tmp_path / "null").exists()
    assert list(folder.iterdir()) == []


def test_a_full_file_system_is_a_sentence(tmp_path: Path, shell_tree: Tree) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "small", small], check=True)
    try:
        with pytest.raises(SandboxError, match=rf"ran out of space. Free some space in {small}\."):
            Chroot(small).run(ScriptRun(shell_tree.write, "true", lambda stream: stream.read(), {}, 0))
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", small], check=True)


def test_where_devices_cannot_be_opened_it_is_a_sentence(tmp_path: Path, shell_tree: Tree) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nodev", "small", small], check=True)
    try:
        with pytest.raises(NoSandboxError, match=r"cannot be made here: .*Permission denied.*/dev/null"):
            Chroot(small).run(ScriptRun(shell_tree.write, "true", lambda stream: stream.read(), {}, 0))
    finally:
        subprocess.run(["umount", small], check=True)


def test_docker_gives_all_that_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(DOCKERS >> number & 1 for number in chroot.NEEDED.values())
    monkeypatch.setattr(chroot, "effective", lambda: DOCKERS)
    assert chroot.is_needed()
    monkeypatch.setattr(chroot, "effective", lambda: DOCKERS | 1 << chroot.SYS_ADMIN)
    assert not chroot.is_needed()


def test_without_mknod_the_option_is_named(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(chroot, "effective", lambda: DOCKERS & ~(1 << chroot.NEEDED["mknod"]))
    with pytest.raises(NoSandboxError, match=r"lacks: mknod\. Start it with --cap-add=MKNOD"):
        Chroot(folder).run(ScriptRun(lambda out: None, "true", lambda stream: stream.read(), {}, 0))
