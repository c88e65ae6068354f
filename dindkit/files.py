"""Write files in one step, and open only files that nobody else can have put in their place."""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import IO

from dindkit import owner
from dindkit.errors import DindkitError

#: With this, opening a pipe does not wait for a writer.
_NONBLOCK = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)

#: Links that a path may lead through: path_resolution(7).
_LINKS = 40


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Yield a new file that takes the name `path` once the block has ended well, and is gone otherwise.

    For files of our own: folders are made for it, and a link at `path` is replaced. Its data is on the disk
    before it gets the name: a full disk is an error, and the old file stays. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _replacing(path, 0o666 & ~_umask()) as file:
        yield file


@contextmanager
def output_file(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file for output; once the block has ended well it is at `path`, which the user has named.

    A regular file is replaced in one step; owner and permissions stay. Of a symbolic link the target is
    replaced, and the link stays. A device, a pipe and this process's own outputs (`/dev/stdout`) are written
    to in place. No folder is made.

    Raises DindkitError as `check_output` does, and OSError.
    """
    target = check_output(path)
    if isinstance(target, int):
        sys.stdout.flush()
        with os.fdopen(os.dup(target), "wb") as file:
            yield file
        return
    found = _found(target)
    if found and not stat.S_ISREG(found.st_mode):
        with os.fdopen(os.open(target, os.O_WRONLY), "wb") as file:
            yield file
        return
    with _replacing(target, stat.S_IMODE(found.st_mode) & 0o777 if found else 0o666 & ~_umask()) as file:
        if found:
            with suppress(PermissionError):  # only root may give files away
                os.fchown(file.fileno(), found.st_uid, found.st_gid)
        yield file


def output_path(text: str) -> Path:
    """Return the path of a file that the user has named. Raises DindkitError for that of a folder."""
    if text.endswith("/"):
        raise DindkitError(f"{text} is the path of a folder.", "Name a file.")
    return Path(text)


def check_output(path: Path) -> Path | int:
    """Return where `output_file` would write: a path that is no link, or a descriptor of this process.

    Raises DindkitError where its folder is missing, or where a folder or a socket is there; OSError where the
    system does not let us look.
    """
    descriptor = _own_descriptor(path)
    if descriptor is not None:
        return descriptor
    found = _found(path)  # asks the kernel first: in /tmp it refuses links of other users
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise DindkitError(f"{path} cannot be written: there is no folder {target.parent}.", "Make it first.")
    if found and stat.S_ISDIR(found.st_mode):
        raise DindkitError(f"{path} is a folder.", "Name a file.")
    if found and stat.S_ISSOCK(found.st_mode):
        raise DindkitError(f"{path} is a socket, which cannot be written as a file.", "Name a file.")
    check_writable(target if found and not stat.S_ISREG(found.st_mode) else target.parent, path)
    return target


def check_writable(place: Path, path: Path) -> None:
    """Raise DindkitError where this user may not write to `place`, a folder or a device, for `path`."""
    if not os.access(place, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise DindkitError(f"{path} cannot be written: {place} is not writable.", "Name another place.")


@contextmanager
def _replacing(path: Path, mode: int) -> Iterator[IO[bytes]]:
    with temporary_file(path.parent) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
        os.fchmod(file.fileno(), mode)
        Path(file.name).replace(path)


@contextmanager
def temporary_file(folder: Path) -> Iterator[IO[bytes]]:
    """Yield a new file in `folder`, for this user alone; it is deleted at the end unless it was renamed.

    Its name says which process made it, and those that killed processes have left are deleted before.
    """
    owner.sweep(folder, owner.HIDDEN)
    path = folder / owner.name(owner.HIDDEN)
    try:  # around the opening as well: an interrupt may come between that and the next line
        with open(path, "x+b", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            yield file
    finally:
        path.unlink(missing_ok=True)


def _own_descriptor(path: Path) -> int | None:
    """Return N where `path` leads to this process's /dev/fd/N, as /dev/stdout does.

    Opening it by name would truncate a file that the shell appends to, and fails for a socket.
    """
    for _ in range(_LINKS):
        there = os.path.join(os.path.realpath(path.parent), path.name)  # noqa: PTH118
        found = re.fullmatch(rf"(?:/proc/{os.getpid()}(?:/task/[0-9]+)?/fd|/dev/fd)/([0-9]+)", there)
        if found:
            return int(found[1])
        if not path.is_symlink():
            return None
        path = path.parent / path.readlink()
    return None


def _found(path: Path) -> os.stat_result | None:
    """Return what the system says of `path`, links followed, or None where nothing is."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def open_regular(path: Path, *, links: bool = False) -> BufferedReader:
    """Open a file of our own (in the cache, in the state folder) for reading.

    A link is followed only with `links`, for a file that the user named; a pipe is refused. Raises
    DindkitError, which names what is there instead, and OSError.
    """
    return os.fdopen(_regular(path, os.open(path, _NONBLOCK)) if links else _own(path, os.O_RDONLY), "rb")


def read_bounded(path: Path, limit: int) -> bytes:
    """Return the content of a file of the project, which may be a link.

    Raises DindkitError where it is no file or has more than `limit` bytes, and OSError.
    """
    with open_regular(path, links=True) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise DindkitError(f"{path} has more than {limit} bytes.", "Is it the right file?")
    return content


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time into the block; the lock file at `path` is made if need be, and stays.

    Raises DindkitError where something else is there: a link is not followed.
    """
    import fcntl  # not there on every host that can build with an engine

    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(_own(path, os.O_RDWR | os.O_CREAT), "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _own(path: Path, flags: int) -> int:
    try:
        descriptor = os.open(path, flags | _NONBLOCK | getattr(os, "O_NOFOLLOW", 0), 0o600)
    except OSError:
        if not os.path.lexists(path) or stat.S_ISREG(path.lstat().st_mode):
            raise
        raise _not_regular(path, path.lstat()) from None
    return _regular(path, descriptor)


def _regular(path: Path, descriptor: int) -> int:
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode):
        return descriptor
    os.close(descriptor)
    raise _not_regular(path, found)


def _not_regular(path: Path, found: os.stat_result, wanted: str = "file") -> DindkitError:
    kinds = {
        stat.S_IFREG: "file",
        stat.S_IFLNK: "symbolic link",
        stat.S_IFDIR: "folder",
        stat.S_IFIFO: "pipe",
        stat.S_IFSOCK: "socket",
    }
    kind = kinds.get(stat.S_IFMT(found.st_mode), "device")
    return DindkitError(
        f"There is a {kind} at {path}, where a {wanted} should be.", "Find out why, and remove it."
    )


def in_the_way(error: OSError, folders: Iterable[Path]) -> DindkitError | None:
    """Return what an error of the system is about: a folder in a file's place, or the other way round.

    None where it is about something else, or not about one of `folders`, our own, or something below one.
    """
    name = error.filename2 or error.filename
    if not name or isinstance(name, int):
        return None
    path = Path(os.fsdecode(name))
    place = next((one for one in (path, *path.parents) if os.path.lexists(one)), path)
    if not any(place.is_relative_to(folder) for folder in folders):
        return None
    if error.errno == errno.EISDIR and place.is_dir():
        return _not_regular(place, place.lstat())
    if error.errno in (errno.ENOTDIR, errno.EEXIST) and os.path.lexists(place) and not place.is_dir():
        return _not_regular(place, place.lstat(), "folder")
    return None


@contextmanager
def on_a_full_disk(instead: DindkitError) -> Iterator[None]:
    """Raise `instead` where the block finds no space left."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise instead from None


def naming_a_full_disk(folder: Path, variable: str) -> AbstractContextManager[None]:
    """Raise a DindkitError where `folder` is full: it names that, and the variable that would move it."""
    cause = f"No space left on device: {folder} is full."
    return on_a_full_disk(DindkitError(cause, f"Free some, or let {variable} name a folder on another disk."))


def open_to_others(folder: Path) -> tuple[Path, str] | None:
    """Return the first folder on the way to `folder` in which others may swap files, and who they are.

    Root, who may do so everywhere, does not count, nor does a group with no other member than its user. In a
    folder with the sticky bit nobody can swap the files of others: inode(7).
    """
    if os.name != "posix":
        return None
    here = Path(os.path.realpath(folder))
    for place in (here, *here.parents):
        found = _found(place)
        if found is None:
            continue
        if found.st_uid not in (0, os.geteuid()):
            return place, f"belongs to user {found.st_uid}"
        if place != here and found.st_mode & stat.S_ISVTX:
            continue
        if found.st_mode & stat.S_IWOTH:
            return place, "may be written by everybody"
        if found.st_mode & stat.S_IWGRP and not _only_ours(found.st_gid):
            return place, f"may be written by group {found.st_gid}"
    return None


def _only_ours(group: int) -> bool:
    """Tell whether only this process's user is in `group`, as far as the system's databases say."""
    import grp
    import pwd

    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
        members = set(grp.getgrgid(group).gr_mem)
    except KeyError:
        return False
    return members <= {user} and all(one.pw_gid != group or one.pw_name == user for one in pwd.getpwall())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
