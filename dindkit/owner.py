"""Ownership marks: which process made a folder or container, and whether that process still runs.

A folder's name or a container's label names the process that made it: machine, boot, PID namespace, process
id and start time. So nothing of a running process is taken for a leftover, even on an engine that several
machines share.
"""

from __future__ import annotations

import atexit
import functools
import glob
import hashlib
import os
import platform
import re
import secrets
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MACHINE_ID = Path("/etc/machine-id")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
PROC = Path("/proc")
#: The kind of temporary files that lie in the user's own folders: their names begin with a dot.
HIDDEN = ".dindkit"
#: How often a folder's deletion is tried.
ATTEMPTS = 20
#: Stands for the machine where the host has no machine-id, as in many containers.
UNKNOWN = "unknown"
#: The kernel's number of the first PID namespace (PROC_PID_INIT_INO in linux/proc_ns.h), whose root sees all.
FIRST_NAMESPACE = 0xEFFFFFFC
_WORDS = r"(?:[0-9a-f]{8}|unknown)\.(?:[0-9a-f]{8}|unknown)\.[0-9a-f]+\.[0-9a-f]+\.[0-9a-f]+"


@dataclass(frozen=True)
class Owner:
    """A process. `start` is in clock ticks since the boot, `namespace` the number of its PID namespace."""

    machine: str
    boot: str
    namespace: int
    process: int
    start: int

    def __str__(self) -> str:
        return f"{self.machine}.{self.boot}.{self.namespace:x}.{self.process:x}.{self.start:x}"


def parse(token: str) -> Owner | None:
    """Return the owner from its text form `token`, or None where that is malformed."""
    if not re.fullmatch(_WORDS, token):
        return None
    machine, boot, *numbers = token.split(".")
    return Owner(machine, boot, *(int(number, 16) for number in numbers))


def current() -> Owner:
    """Return this process as an Owner."""
    return of(os.getpid())


def of(process: int) -> Owner:
    """Return a process of this PID namespace as an Owner."""
    return Owner(_machine(), _boot(), _namespace("self") or 0, process, _start(process) or 0)


def is_abandoned(owner: Owner) -> bool:
    """Return whether `owner` is known to have ended; False where this process cannot know.

    It can know of processes under this boot of the kernel, those in containers included, and of processes
    under an earlier boot where the machine has an id. It cannot know of other machines.
    """
    here = current()
    if owner.boot != here.boot:
        return owner.machine == here.machine != UNKNOWN
    if here.boot == UNKNOWN and (owner.machine != here.machine or here.machine == UNKNOWN):
        return False
    if owner.namespace == here.namespace:
        return not _lives(owner)
    return _sees_all() and not _lives_below(owner)


@contextmanager
def workspace(parent: Path, kind: str, mode: int = 0o777) -> Iterator[Path]:
    """Yield a new empty folder in `parent`, and delete it afterwards.

    Before that, folders of the same `kind` that killed processes have left are deleted. The umask is taken
    from `mode`, as in mkdir(2).
    """
    parent.mkdir(parents=True, exist_ok=True)
    sweep(parent, kind)
    folder = parent / name(kind)
    # Known to atexit until it is gone: an interrupt may come at any moment, also of its deletion, and a
    # thread inside the block then ends only with the interpreter.
    remove = functools.partial(_remove, folder)
    atexit.register(remove)
    try:
        folder.mkdir(mode)
        yield folder
    finally:
        remove()
        atexit.unregister(remove)


def _remove(folder: Path) -> None:
    """Delete `folder`, also where a thread puts one more file into it meanwhile: then it is not empty."""
    for _ in range(ATTEMPTS):
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.lexists(folder):
            return


def name(kind: str) -> str:
    """Return a unique name that contains `kind` and this process."""
    return f"{kind}-{current()}-{secrets.token_hex(3)}"


def sweep(parent: Path, kind: str) -> list[Path]:
    """Delete from `parent` what has a name made by `name` for a process that has ended.

    What this user may not delete stays. Returns what was deleted.
    """
    makers = {path: of_path(path) for path in parent.glob(f"{glob.escape(kind)}-*")}
    left = [path for path, maker in makers.items() if maker is not None and is_abandoned(maker)]
    for path in left:
        delete(path)
    return [path for path in left if not path.exists()]


def of_path(path: Path) -> Owner | None:
    """Return the process in the name of `path`, or None where there is none."""
    found = re.fullmatch(rf".+-({_WORDS})-[0-9a-z_]+", path.name)
    return parse(found[1]) if found else None


def delete(path: Path) -> None:
    """Delete a file, or a folder with all in it, as far as this user may."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@functools.cache
def _machine() -> str:
    """Return a digest of this machine's id and host name: cloned machines may share an id."""
    found = _read(MACHINE_ID) if platform.system() == "Linux" else str(uuid.getnode())
    if found in ("", "uninitialized"):  # machine-id(5)
        return UNKNOWN
    return hashlib.sha256(f"{found} {platform.node()}".encode()).hexdigest()[:8]


@functools.cache
def _boot() -> str:
    found = _read(BOOT_ID)
    return hashlib.sha256(found.encode()).hexdigest()[:8] if found else UNKNOWN


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""


def _namespace(process: int | str) -> int | None:
    """Return the number of a process's PID namespace, or None where this user may not read it."""
    try:
        return int(re.sub(r"\D", "", str((PROC / str(process) / "ns/pid").readlink())))
    except (OSError, ValueError):
        return None


def _lives(owner: Owner) -> bool:
    """Return whether `owner`, a process of this PID namespace, is running."""
    try:
        os.kill(owner.process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass  # another user's
    start = _start(owner.process)
    return start is None or owner.start in (0, start)


def _start(process: int | str) -> int | None:
    """Return when a process started: -1 for a zombie, None where /proc does not show it.

    See proc_pid_stat(5), fields 3 and 22. The program's name before them may hold blanks and parentheses.
    """
    stat = _read(PROC / str(process) / "stat").rpartition(")")[2].split()
    if not stat:
        return None
    return -1 if stat[0] in "ZX" else int(stat[19])


def _sees_all() -> bool:
    return os.geteuid() == 0 and _namespace("self") == FIRST_NAMESPACE


def _lives_below(owner: Owner) -> bool:
    """Return whether any process is in the PID namespace of `owner`, which is below this one."""
    for folder in PROC.glob("[0-9]*"):
        if _namespace(folder.name) == owner.namespace:
            ids = re.search(r"^NSpid:.*\t(\d+)$", _read(folder / "status"), re.MULTILINE)
            if ids and int(ids[1]) == owner.process and _start(folder.name) == owner.start:
                return True
    return False
