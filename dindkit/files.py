"""Files that others see whole or not at all."""

from __future__ import annotations

import os
import re
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from dindkit import owner
from dindkit.errors import DindkitError

#: Links that a path may lead through: path_resolution(7).
_LINKS = 40


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Yield a new file that takes the name `path` once the block has ended well, and is gone otherwise.

    For files of our own: folders are made for it, and a link at `path` is replaced. Its data is on the disk
    by then, so that a full one is an error that leaves what was there before. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _replacing(path, 0o666 & ~_umask()) as file:
        yield file


@contextmanager
def output_file(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file for output; once the block has ended well it is found at `path`, as the user named it.

    A regular file is replaced in one step; owner and permissions stay. Of a symbolic link the target is
    replaced, and the link stays. What is no regular file, such as a device or a pipe, is written to in place,
    and so are this process's own outputs (`/dev/stdout`), at their own offset. No folder is made.

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


def check_output(path: Path) -> Path | int:
    """Return where `output_file` would write: a path that is no link, or a descriptor of this process.

    Raises DindkitError where its folder is missing, or where a folder or a socket is there; OSError where the
    system does not let us look.
    """
    descriptor = _own_descriptor(path)
    if descriptor is not None:
        return descriptor
    found = _found(path)  # asks the kernel first, which refuses strangers' links in /tmp
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise DindkitError(f"{path} cannot be written: there is no folder {target.parent}.", "Make it first.")
    if found and stat.S_ISDIR(found.st_mode):
        raise DindkitError(f"{path} is a folder.", "Name a file.")
    if found and stat.S_ISSOCK(found.st_mode):
        raise DindkitError(f"{path} is a socket, which cannot be written as a file.", "Name a file.")
    return target


@contextmanager
def _replacing(path: Path, mode: int) -> Iterator[IO[bytes]]:
    owner.sweep(path.parent, owner.HIDDEN)
    prefix = f"{owner.HIDDEN}-{owner.current()}-"
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=prefix, delete=False) as file:
        temporary = Path(file.name)
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), mode)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _own_descriptor(path: Path) -> int | None:
    """Return N where `path` leads to this process's /dev/fd/N, as /dev/stdout does.

    Opened by its name, a file that the shell appends to would be cut off, and a socket could not be opened.
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


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
