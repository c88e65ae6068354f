"""Unpack a tar stream into a folder, and pack a folder: owners, modes, times, hard links, capabilities.

The sandbox worker runs this on any Python, before and after the maintainer scripts, so it imports nothing but
the standard library and modules that do the same. No path leads out of the folder, whatever the stream or the
folder holds: every name is opened below a descriptor of its own folder, and no symbolic link is followed.
"""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import IO, Any

from dindkit.formats.entry import CAPABILITY, Entry
from dindkit.formats.forward import BUFFER, Content, Forward
from dindkit.formats.tar_members import described
from dindkit.formats.tar_writer import Writer

#: Opens a folder, and fails for anything else.
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

#: The kinds of entries that are nodes for mknod(2).
NODES = {"fifo": stat.S_IFIFO, "char": stat.S_IFCHR, "block": stat.S_IFBLK}

#: The kinds of entries, by those of stat(2). No tar can hold a socket.
KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
}

#: How many folders are kept open at a time: a path may have some thousand parts.
KEPT = 16


class _Below:
    """Opens the folders below `root`, each from its parent, so that no path is ever followed as a whole."""

    def __init__(self, root: str) -> None:
        self._root = os.open(root, FOLDER)
        #: Descriptors of open folders by path, the oldest first.
        self._open: dict[str, int] = {}

    def folder(self, path: str) -> int:
        """Return a descriptor of the folder at `path`, good until the next call. Raises OSError."""
        missing = []
        while path and path not in self._open:
            missing.append(path)
            path = path.rpartition("/")[0]
        found = self._open[path] if path else self._root
        for path in reversed(missing):
            found = os.open(path.rpartition("/")[2], FOLDER, dir_fd=found)
            if len(self._open) >= KEPT:
                os.close(self._open.pop(next(iter(self._open))))
            self._open[path] = found
        return found

    def close(self) -> None:
        for descriptor in (self._root, *self._open.values()):
            os.close(descriptor)


def _parent_and_name(name: str) -> tuple[str, str]:
    """Split a member's name into its folder and its name there. Raises tarfile.TarError if it climbs."""
    parts = name.rstrip("/").split("/")
    if "" in parts or "." in parts or ".." in parts or "\0" in name:
        raise tarfile.TarError(f"the path {name!r} leads outside the tree")
    return "/".join(parts[:-1]), parts[-1]


def unpack(archive: IO[bytes], folder: str) -> None:
    """Extract the tar stream of a tree into the empty `folder`, as `lay_out` does.

    Raises OSError, and tarfile.TarError also where the stream is damaged.
    """
    stream: Any = Forward(archive)
    with tarfile.TarFile(fileobj=stream, errors="surrogateescape", encoding="utf-8") as members:
        lay_out(map(partial(_member, members), members), folder)


def _member(members: tarfile.TarFile, member: tarfile.TarInfo) -> tuple[Entry, Iterable[bytes]]:
    path = "" if member.name in (".", "") else member.name.rstrip("/")
    return replace(described(member), path=path), _content(members, member)


def _content(members: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
    content = Content(members, member)
    while chunk := content.read(BUFFER):
        yield chunk


def lay_out(tree: Iterable[tuple[Entry, Iterable[bytes] | None]], folder: str, twin: str = "") -> None:
    """Write entries, each with its content, into the empty `folder`: owners, modes, times and capabilities.

    Parents come before their children, and files before their hard links. A file without content becomes
    another name of the one at the same path below the folder `twin`. Raises OSError and tarfile.TarError for
    a path that leads outside or through a link: nothing is written there.
    """
    below, other = _Below(folder), _Below(twin or folder)
    directories: list[Entry] = []
    try:
        for entry, content in tree:
            if content is None:
                _link(entry.path, other, entry.path, below)
            elif entry.path:
                _create(entry, content, below)
            else:
                _describe(below.folder(""), entry)
            if entry.kind == "dir":
                directories.append(entry)
        for entry in reversed(directories):
            os.utime(below.folder(entry.path), (entry.mtime, entry.mtime))
    finally:
        below.close()
        other.close()


def _create(entry: Entry, content: Iterable[bytes], below: _Below) -> None:
    parent, name = _parent_and_name(entry.path)
    at = below.folder(parent)
    if entry.kind == "hardlink":
        _link(entry.link, below, entry.path, below)
    elif entry.kind == "dir":
        os.mkdir(name, dir_fd=at)
        _describe(below.folder(entry.path), entry)
    elif entry.kind == "symlink":
        os.symlink(entry.link, name, dir_fd=at)
        os.chown(name, entry.uid, entry.gid, dir_fd=at, follow_symlinks=False)
        os.utime(name, (entry.mtime, entry.mtime), dir_fd=at, follow_symlinks=False)
    elif entry.kind == "file":
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(name, flags, 0o600, dir_fd=at), "wb", buffering=0) as file:  # noqa: PTH123
            for chunk in content:
                _write(file, chunk)
            _describe(file.fileno(), entry)
    else:
        os.mknod(name, NODES[entry.kind] | 0o600, os.makedev(*entry.device), dir_fd=at)
        os.chown(name, entry.uid, entry.gid, dir_fd=at, follow_symlinks=False)
        os.chmod(name, entry.mode, dir_fd=at)  # mknod has failed if a link was there
        os.utime(name, (entry.mtime, entry.mtime), dir_fd=at, follow_symlinks=False)


def _link(target: str, there: _Below, path: str, here: _Below) -> None:
    """Make a hard link. The target's folder stays open while the link's folder is opened."""
    (folder, old), (parent, name) = _parent_and_name(target), _parent_and_name(path)
    source = os.dup(there.folder(folder))
    try:
        os.link(old, name, src_dir_fd=source, dst_dir_fd=here.folder(parent), follow_symlinks=False)
    finally:
        os.close(source)


def _write(file: io.FileIO, chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[file.write(rest) :]


def _describe(descriptor: int, entry: Entry) -> None:
    """Set owner, mode, capabilities and time of an open file or folder."""
    os.fchown(descriptor, entry.uid, entry.gid)
    os.fchmod(descriptor, entry.mode)  # after chown, which clears the set-id bits
    if entry.capability:
        os.setxattr(descriptor, CAPABILITY, entry.capability)
    os.utime(descriptor, (entry.mtime, entry.mtime))


def _walk(folder: str) -> Iterator[str]:
    """Yield every path under `folder`, relative to it, parents first, without crossing into another mount."""
    below = _Below(folder)
    device = os.stat(folder).st_dev  # noqa: PTH116
    waiting = [""]
    try:
        while waiting:
            path = waiting.pop()
            if path:
                yield path
            at = below.folder(path.rpartition("/")[0])
            found = os.stat(path.rpartition("/")[2] or ".", dir_fd=at, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode) and found.st_dev == device:
                names = sorted(os.listdir(below.folder(path)), key=os.fsencode, reverse=True)  # noqa: PTH208
                waiting += [f"{path}/{name}" if path else name for name in names]
    finally:
        below.close()


def pack(folder: str, archive: IO[bytes]) -> None:
    """Write the tree under `folder` as a tar stream: hard links as such, capabilities as pax records.

    Nothing may change the tree meanwhile: the worker calls this when the scripts' last process has ended. A
    file that has changed since its name was read is an OSError nevertheless.
    """
    below = _Below(folder)
    writer = Writer(archive)
    first: dict[tuple[int, int], str] = {}
    try:
        for path in _walk(folder):
            _pack_one(path, below, first, writer)
    finally:
        below.close()
    writer.close()


def _pack_one(path: str, below: _Below, first: dict[tuple[int, int], str], writer: Writer) -> None:
    parent, _, name = path.rpartition("/")
    at = below.folder(parent)
    found = os.stat(name, dir_fd=at, follow_symlinks=False)
    kind = KINDS.get(stat.S_IFMT(found.st_mode))
    if kind is None:
        return
    entry = Entry(
        path, kind, stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, mtime=int(found.st_mtime)
    )
    if kind == "symlink":
        writer.add(replace(entry, link=os.readlink(name, dir_fd=at)))
    elif kind != "file":
        device = (os.major(found.st_rdev), os.minor(found.st_rdev)) if kind in ("char", "block") else (0, 0)
        writer.add(replace(entry, device=device))
    elif (link := first.setdefault((found.st_dev, found.st_ino), path)) != path:
        writer.add(replace(entry, kind="hardlink", link=link))
    else:
        _pack_file(replace(entry, size=found.st_size), name, at, (found.st_dev, found.st_ino), writer)


def _pack_file(entry: Entry, name: str, at: int, identity: tuple[int, int], writer: Writer) -> None:
    # O_NONBLOCK: if a FIFO has replaced the file, opening it must not wait for a writer.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with open(os.open(name, flags, dir_fd=at), "rb", buffering=0) as content:  # noqa: PTH123
        now = os.fstat(content.fileno())
        if (now.st_dev, now.st_ino) != identity or not stat.S_ISREG(now.st_mode):
            raise _changed(entry.path)
        if CAPABILITY in os.listxattr(content.fileno()):
            entry = replace(entry, capability=os.getxattr(content.fileno(), CAPABILITY))
        writer.add(entry, _exactly(content, entry))


def _exactly(content: io.FileIO, entry: Entry) -> Iterator[bytes]:
    left = entry.size
    while left:
        chunk = content.read(min(left, BUFFER))
        if not chunk:
            raise _changed(entry.path)
        yield chunk
        left -= len(chunk)


def _changed(path: str) -> OSError:
    return OSError(f"{path!r} has changed while the tree was read")
