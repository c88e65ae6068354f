"""Where output lands: in the file that the user named, and nowhere else."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dindkit.errors import DindkitError
from dindkit.files import check_output, output_file, replacing
from dindkit.image.build import BuildOptions, build_and_write
from dindkit.image.output import Output
from dindkit.progress import Progress
from dindkit.project import Project
from dindkit.review.audit import audit

ROOT = Path(__file__).parents[1]

#: Writes "new" to the file that the argument names.
WRITE = """
import sys
from collections.abc import Iterator
from pathlib import Path
from dindkit.files import output_file
with output_file(Path(sys.argv[1])) as file:
    file.write(b"new")
"""


def write(path: Path) -> None:
    with output_file(path) as file:
        file.write(b"new")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()), daemon=True)
    reader.start()
    write(pipe)
    reader.join(10)
    assert got == [b"new"]
    assert pipe.is_fifo()


def test_a_device_is_written_to_and_stays(tmp_path: Path) -> None:
    link = tmp_path / "null"
    link.symlink_to("/dev/null")
    write(link)
    assert link.is_symlink()
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    link = tmp_path / "full"
    link.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        write(link)
    assert link.is_symlink()
    assert names(tmp_path) == ["full", "null"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
def test_a_device_that_root_could_replace(tmp_path: Path) -> None:
    device = tmp_path / "null"
    os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    write(device)
    assert device.is_char_device()
    assert names(tmp_path) == ["null"]


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "/proc/thread-self/fd/1"])
def test_standard_output_by_its_name(tmp_path: Path, name: str) -> None:
    link = tmp_path / "link"
    link.symlink_to(name)
    words = [sys.executable, "-c", WRITE, str(link)]
    assert subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout == b"new"
    log = tmp_path / "log"
    log.write_bytes(b"before ")
    with log.open("ab") as appended:
        subprocess.run(words, cwd=ROOT, stdout=appended, check=True)
    assert log.read_bytes() == b"before new"
    ours, theirs = socket.socketpair()
    with ours, theirs:
        subprocess.run(words, cwd=ROOT, stdout=theirs.fileno(), check=True)
        assert ours.recv(10) == b"new"
    assert link.is_symlink()


def test_a_socket_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        with pytest.raises(DindkitError, match="is a socket"):
            write(path)
        assert path.is_socket()


def test_of_a_link_the_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "target", tmp_path / "link"
    link.symlink_to("there/target")
    write(link)  # a link that leads nowhere yet
    assert target.read_bytes() == b"new"
    target.write_bytes(b"old")
    target.chmod(0o600)
    write(link)
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert target.stat().st_mode & 0o7777 == 0o600
    link.unlink()
    link.symlink_to("link")
    with pytest.raises(OSError, match="symbolic links"):
        write(link)


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail() -> None:
        with output_file(path) as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_a_folder_is_refused_and_none_is_made(tmp_path: Path) -> None:
    with pytest.raises(DindkitError, match="is a folder"):
        write(tmp_path)
    missing = tmp_path / "missing" / "file"
    with pytest.raises(DindkitError, match=rf"there is no folder {tmp_path}/missing\. Make it first"):
        check_output(missing)
    (tmp_path / "link").symlink_to(missing)
    with pytest.raises(DindkitError, match="there is no folder"):
        write(tmp_path / "link")
    assert not missing.parent.exists()
    with replacing(missing) as file:  # of state and cache, which are ours
        file.write(b"new")
    assert missing.read_bytes() == b"new"


def test_every_verb_with_output_says_so_before_it_works(tmp_path: Path) -> None:
    """The project is empty: an error about the output must come before one about the image."""
    project = Project(tmp_path, tmp_path / "state", tmp_path / "cache")
    target = tmp_path / "missing" / "file"
    quiet = Progress(quiet=True)
    with pytest.raises(DindkitError, match="there is no folder"):
        build_and_write(project, BuildOptions(), quiet, Output(target))
    with pytest.raises(DindkitError, match="there is no folder"):
        audit(project, BuildOptions(), quiet, sys.stdout, html=target)
    words = [sys.executable, "-m", "invoke", "sbom", "--output", str(target), "--image", "no-such-image"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert (
        done.stderr
        == f"error: {target} cannot be written: there is no folder {target.parent}. Make it first.\n"
    )
    assert not target.parent.exists()


def test_a_folder_that_is_not_for_writing_is_named_before_the_work(tmp_path: Path) -> None:
    """With the path that the user gave, and not with that of a temporary file."""
    with mounted_read_only(tmp_path / "here"), pytest.raises(DindkitError) as caught:
        check_output(tmp_path / "here/audit.html")
    said = (
        f"{tmp_path}/here/audit.html cannot be written: {tmp_path}/here is not writable. Name another place."
    )
    assert str(caught.value) == said


@contextlib.contextmanager
def mounted_read_only(folder: Path) -> Iterator[None]:
    """Mount an empty file system on `folder`, which nobody can write to, root neither."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", folder], capture_output=True)
    if done.returncode:
        pytest.skip("this user may not mount")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)
