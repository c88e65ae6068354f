"""Whose a thing is: nothing of a process that lives, or may live, is taken for a leftover."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dindkit import owner
from dindkit.files import replacing
from tests.support.processes import judged, killed, living

#: In a PID namespace of its own, as in a container.
CONTAINER = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
root = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes PID namespaces")


@pytest.fixture
def no_machine_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(owner, "MACHINE_ID", tmp_path / "none")
    owner._machine.cache_clear()
    yield
    owner._machine.cache_clear()


def test_it_is_read_as_it_was_written() -> None:
    found = owner.current()
    assert owner.parse(str(found)) == found
    assert found.process == os.getpid()
    for text in ("", "smoke", f"{found}.1", f"x{found}", str(found).replace(".", "-")):
        assert owner.parse(text) is None


def test_a_process_that_lives_and_one_that_does_not() -> None:
    assert not owner.is_abandoned(owner.current())
    with living() as (found, process):
        assert not owner.is_abandoned(found)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has asked how
        assert owner.is_abandoned(found)
    assert owner.is_abandoned(found)


def test_another_process_of_the_same_number() -> None:
    with living() as (found, _):
        assert owner.is_abandoned(replace(found, start=found.start - 1))


def test_a_boot_before_this_one() -> None:
    with living() as (found, _):
        assert owner.is_abandoned(replace(found, boot="00000000"))


def test_other_machines() -> None:
    dead = killed()
    assert not owner.is_abandoned(replace(dead, machine="00000000", boot="00000000"))
    assert not owner.is_abandoned(replace(dead, machine=owner.UNKNOWN, boot="00000000"))


def test_a_machine_without_an_id(no_machine_id: None) -> None:
    dead = killed()  # under the same kernel, which tells as well
    here = owner.current()
    assert here.machine == owner.UNKNOWN
    assert not owner.is_abandoned(here)
    assert owner.is_abandoned(dead)
    assert owner.is_abandoned(replace(dead, machine=owner.UNKNOWN))
    assert not owner.is_abandoned(replace(dead, machine=owner.UNKNOWN, boot="00000000"))


@root
def test_processes_in_containers_of_this_machine() -> None:
    """Their numbers mean nothing here: 1 lives on this machine as well."""
    sees_all = Path("/proc/self/ns/pid").stat().st_ino == owner.FIRST_NAMESPACE
    with living(*CONTAINER) as (found, _):
        assert found.process == 1
        assert not owner.is_abandoned(found)
        assert not owner.is_abandoned(replace(found, machine="00000000"))
        assert owner.is_abandoned(replace(found, process=2)) == sees_all
    deadline = time.monotonic() + 10
    while sees_all and not owner.is_abandoned(found):  # its files are closed before it is gone
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert owner.is_abandoned(found) == sees_all


@root
def test_seen_from_a_container() -> None:
    """It does not see who is outside, and takes nobody there for dead."""
    with living() as (found, _), living(*CONTAINER) as (other, _):
        for one in (found, other, killed()):
            assert not judged(one, *CONTAINER)
    assert not judged(other, *CONTAINER)


def test_a_process_of_another_user() -> None:
    with living() as (found, _):
        nobody = ("setpriv", "--reuid=65534", "--clear-groups") if os.geteuid() == 0 else ()
        assert not judged(found, *nobody)
        assert judged(replace(found, start=found.start - 1), *nobody)


def test_a_folder_for_as_long_as_it_is_needed(tmp_path: Path) -> None:
    dead = tmp_path / f"work-{killed()}-0a1b2c"
    strange = [tmp_path / name for name in ("work-0a1b2c", "work-here", f"other{dead.name[4:]}")]
    for folder in (dead, *strange):
        folder.mkdir()
        (folder / "file").touch()
    with living() as (found, _):
        theirs = tmp_path / f"work-{found}-0a1b2c"
        theirs.mkdir()
        with owner.workspace(tmp_path, "work", 0o700) as folder:
            assert not dead.exists()
            assert folder.stat().st_mode & 0o777 == 0o700
            assert owner.of_path(folder) == owner.current()
            with owner.workspace(tmp_path, "work") as second:
                assert second != folder
        assert sorted(tmp_path.iterdir()) == sorted([theirs, *strange])


def test_a_link_in_the_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").touch()
    (tmp_path / f"work-{killed()}-0a1b2c").symlink_to(tmp_path / "kept")
    with owner.workspace(tmp_path, "work"):
        pass
    assert [path.name for path in tmp_path.rglob("*")] == ["kept", "file"]


def test_a_file_that_was_being_written(tmp_path: Path) -> None:
    (tmp_path / f".dindkit-{killed()}-x_y12345").write_text("half")
    with replacing(tmp_path / "output") as file:
        file.write(b"whole")
        assert len(list(tmp_path.iterdir())) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["output"]


#: Interrupts the deletion of a workspace once.
INTERRUPTED = """
import shutil, sys
from pathlib import Path
from dindkit import owner

whole, calls = shutil.rmtree, []

def rmtree(*words, **options):
    calls.append(words)
    if len(calls) == 1:
        raise KeyboardInterrupt
    whole(*words, **options)

shutil.rmtree = rmtree
try:
    with owner.workspace(Path(sys.argv[1]), "test") as folder:
        (folder / "file").touch()
except KeyboardInterrupt:
    sys.exit(3)
"""


def test_an_interrupt_of_the_deletion_itself_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, tmp_path], cwd=Path(__file__).parents[1], check=False
    )
    assert done.returncode == 3
    assert list(tmp_path.iterdir()) == []


def test_a_workspace_goes_where_a_thread_still_writes(tmp_path: Path) -> None:
    """As a download does that an interrupt has left alone: it ends when its folder is gone."""
    writing = threading.Event()

    def write(folder: Path) -> None:
        try:
            for number in itertools.count():
                (folder / str(number)).touch()
                writing.set()
                time.sleep(0.0002)
        except OSError:
            return

    for _ in range(20):
        writing.clear()
        with owner.workspace(tmp_path, "download") as folder:
            thread = threading.Thread(target=write, args=(folder,), daemon=True)
            thread.start()
            assert writing.wait(10)
        assert list(tmp_path.iterdir()) == []
        thread.join(10)
