"""The worker of the chroot sandbox: it does what worker.py does, without a mount or a namespace.

Runs as a program of its own (chroot.py says how), as root with Docker's default capabilities, so it imports
nothing but the standard library and modules that do the same. The tree is in a folder of its own, locked
while this process lives. What scripts leave running becomes this process's child, and ends with it: on
SIGTERM, which the kernel sends when the program that started it ends. Exit codes are worker.py's.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import stat
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

from dindkit.formats.folder import pack, unpack
from dindkit.sandbox import confine, worker

#: <linux/prctl.h>
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36

#: Signals that end a program.
ENDS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

#: Major and minor number of each device that scripts see: those of every container.
DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}

#: Begins the name of each run's folder.
PREFIX = "chroot-"

#: What the tree has at these paths is kept aside while scripts run.
OWN = ("dev", "proc")


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    for number in ENDS:
        signal.signal(number, signal.SIG_IGN)  # nothing may interrupt what main() does at its end
    sys.exit(1)


def _children() -> set[int]:
    """Return the ids of this process's children: field 4 of /proc/PID/stat, proc_pid_stat(5)."""
    found = set()
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit():
            with suppress(OSError):
                line = Path("/proc", name, "stat").read_bytes()
                if int(line.rpartition(b")")[2].split()[1]) == os.getpid():
                    found.add(int(name))
    return found


def _end_children() -> None:
    """Kill what scripts have left, and wait for it. Children of a process that ends become this one's."""
    while children := _children():
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        for child in children:
            with suppress(ChildProcessError):
                os.waitpid(child, 0)


def _remove(path: str) -> None:
    """Delete a folder. shutil's rmtree would need a stack frame and a descriptor for each level of it."""
    os.spawnvp(os.P_WAIT, "rm", ["rm", "--recursive", "--force", "--one-file-system", "--", path])  # noqa: S606


def _locked(path: str, flags: int = 0) -> int:
    """Return a descriptor that holds the lock of the folder `path`. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | flags)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _place(folder: str) -> tuple[str, int]:
    """Make a folder for this run below `folder`; return its path, and a descriptor that holds its lock.

    Deletes what runs have left there whose worker was killed: nobody holds a lock of it any more.
    """
    whole = _locked(folder)
    try:
        for name in os.listdir(folder):  # noqa: PTH208
            if name.startswith(PREFIX):
                with suppress(OSError):
                    held = _locked(f"{folder}/{name}", fcntl.LOCK_NB)
                    _remove(f"{folder}/{name}")
                    os.close(held)
        made = tempfile.mkdtemp(prefix=PREFIX, dir=folder)
        return made, _locked(made)
    finally:
        os.close(whole)


def _prepare(place: str, root: str, packages: str) -> None:
    """Give the tree at `root` devices, an empty /proc, and copies of the packages.

    Copies, as scripts could write to the packages through links. There is no /proc: without a mount there is
    no other than this container's, whose processes lead out of the tree.
    """
    for name in OWN:
        with suppress(FileExistsError):
            os.mkdir(f"{root}/{name}")  # noqa: PTH102
        if not stat.S_ISDIR(os.lstat(f"{root}/{name}").st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "the tree has no folder here", f"/{name}")
        os.rename(f"{root}/{name}", f"{place}/{name}")  # noqa: PTH104
        os.mkdir(f"{root}/{name}")  # noqa: PTH102
    for name, numbers in DEVICES.items():
        os.mknod(f"{root}/dev/{name}", stat.S_IFCHR | 0o666, os.makedev(*numbers))
        os.chmod(f"{root}/dev/{name}", 0o666)  # noqa: PTH101, S103 - what devices of all users have
    # On a file system that is mounted with `nodev`, nodes can be made and not opened.
    os.close(os.open(f"{root}/dev/null", os.O_RDWR))
    if packages:
        os.mkdir(f"{root}/{worker.PACKAGES_FOLDER}")  # noqa: PTH102 - fails where the tree has something here
        for name in os.listdir(packages):  # noqa: PTH208
            shutil.copyfile(f"{packages}/{name}", f"{root}/{worker.PACKAGES_FOLDER}/{name}")


def _restore(place: str, root: str) -> None:
    """Put back what the tree had at OWN, whatever scripts have made there."""
    for name in OWN:
        with suppress(FileNotFoundError):
            os.rename(f"{root}/{name}", f"{place}/{name}.used")  # noqa: PTH104
        os.rename(f"{place}/{name}", f"{root}/{name}")  # noqa: PTH104


def _enter(root: str) -> None:
    os.chroot(root)
    os.chdir("/")
    sys.path.clear()  # a module imported after this would come from the tree


def _unpack(root: str) -> int:
    _enter(root)
    unpack(sys.stdin.buffer, "/")
    return 0


def _run(root: str, script: str) -> int:
    confine.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    for number in ENDS:
        signal.signal(number, signal.SIG_DFL)
    _enter(root)
    return worker.run_script(script)


def _pack(root: str) -> int:
    _enter(root)
    pack("/", sys.stdout.buffer)
    sys.stdout.buffer.flush()
    return 0


def _work(place: str, script: str, packages: str) -> int:
    root = f"{place}/tree"
    os.mkdir(root, 0o755)  # noqa: PTH102
    code = worker.in_child(lambda: _unpack(root))
    if code:
        return code
    _prepare(place, root, packages)
    code = worker.in_child(lambda: _run(root, script))
    _end_children()
    if code:
        return worker.SCRIPT_FAILED
    _restore(place, root)
    return worker.in_child(lambda: _pack(root))


def main(parent: str, folder: str, script: str, packages: str = "") -> int:
    """Run `script` in the tree that standard input holds, below `folder`, and return the exit code.

    `parent` is the id of the process that started this one. Copies of the files in the folder `packages`,
    unless empty, are in PACKAGES_FOLDER.
    """
    os.umask(0o022)
    place = ""
    # A terminal sends the other two to the parent as well, whose end this worker is told of.
    for number in ENDS:
        signal.signal(number, _end if number == signal.SIGTERM else signal.SIG_IGN)
    try:
        confine.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        confine.prctl(PR_SET_CHILD_SUBREAPER, 1)
        if os.getppid() != int(parent):  # it has ended before
            return 1
        place, _lock = _place(folder)
        confine.hide()
        return _work(place, script, packages)
    except OSError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return worker.NO_SPACE if worker.is_full(error) else worker.NO_MOUNT
    finally:
        for number in ENDS:
            signal.signal(number, signal.SIG_IGN)
        _end_children()
        if place:
            _remove(place)
