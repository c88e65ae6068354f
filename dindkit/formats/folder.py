"""A tree between a folder on disk and a tar stream: owners, modes, times, hard links and capabilities.

The sandbox worker runs this on any Python, before and after the maintainer scripts, so it imports nothing but
the standard library and its neighbour.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator
from typing import IO

from dindkit.formats.entry import CAPABILITY, PAX_CAPABILITY


def unpack(archive: IO[bytes], folder: str) -> None:
    """Lay out a tar stream of a whole tree in the empty `folder`, with owners, modes, times and capabilities.

    The stream is one that this project wrote: parents come first, and no path leads through a symbolic link.
    """
    directories: list[tuple[str, tarfile.TarInfo]] = []
    with tarfile.open(fileobj=archive, mode="r|", errors="surrogateescape", encoding="utf-8") as members:
        for member in members:
            path = os.path.join(folder, member.name)  # noqa: PTH118 - this loop is hot
            _create(members, member, path, folder)
            if member.isdir():
                directories.append((path, member))
    for path, member in reversed(directories):
        os.utime(path, (member.mtime, member.mtime))


def _create(members: tarfile.TarFile, member: tarfile.TarInfo, path: str, folder: str) -> None:
    if member.islnk():
        os.link(os.path.join(folder, member.linkname), path, follow_symlinks=False)  # noqa: PTH118
        return
    if member.isdir():
        if member.name not in (".", ""):
            os.mkdir(path)  # noqa: PTH102
    elif member.issym():
        os.symlink(member.linkname, path)  # noqa: PTH211
    elif member.isfile():
        _write(members, member, path)
    elif member.isfifo():
        os.mkfifo(path)
    else:
        kind = stat.S_IFCHR if member.ischr() else stat.S_IFBLK
        os.mknod(path, kind | 0o600, os.makedev(member.devmajor, member.devminor))
    os.lchown(path, member.uid, member.gid)
    if not member.issym():
        os.chmod(path, member.mode)  # noqa: PTH101 - after chown, which clears the set-id bits
    if PAX_CAPABILITY in member.pax_headers:
        value = member.pax_headers[PAX_CAPABILITY].encode("utf-8", "surrogateescape")
        os.setxattr(path, CAPABILITY, value, follow_symlinks=False)
    os.utime(path, (member.mtime, member.mtime), follow_symlinks=False)


def _write(members: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
    content = members.extractfile(member)
    if content is None:
        raise tarfile.TarError(f"{member.name} has no content")
    with open(path, "xb") as file:  # noqa: PTH123
        while chunk := content.read(1 << 20):
            file.write(chunk)


def _walk(folder: str) -> Iterator[str]:
    """Yield every path under `folder`, parents first, without crossing into another mount."""
    for entry in sorted(os.scandir(folder), key=lambda entry: os.fsencode(entry.name)):
        yield entry.path
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path)


def pack(folder: str, archive: IO[bytes]) -> None:
    """Write the tree under `folder` as a tar stream: hard links as such, capabilities as pax records."""
    with tarfile.open(
        fileobj=archive, mode="w|", format=tarfile.PAX_FORMAT, errors="surrogateescape", encoding="utf-8"
    ) as out:
        for path in _walk(folder):
            member = out.gettarinfo(path, arcname=os.path.relpath(path, folder))
            if member is None:  # a socket, which no tar can hold
                continue
            member.uname = member.gname = ""
            member.mtime = int(member.mtime)
            if member.isreg():
                if CAPABILITY in os.listxattr(path):
                    value = os.getxattr(path, CAPABILITY)
                    member.pax_headers = {PAX_CAPABILITY: value.decode("utf-8", "surrogateescape")}
                with open(path, "rb") as content:  # noqa: PTH123
                    out.addfile(member, content)
            else:
                out.addfile(member)
