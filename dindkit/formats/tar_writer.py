"""A tar writer whose bytes depend on its input alone: POSIX.1-2017 ustar, pax where ustar is too small."""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from dindkit.formats.entry import Entry

BLOCK = 512
TYPE = {
    "file": b"0",
    "hardlink": b"1",
    "symlink": b"2",
    "char": b"3",
    "block": b"4",
    "dir": b"5",
    "fifo": b"6",
}

#: What comes after the last entry: two empty blocks.
END = b"\0" * BLOCK * 2

#: The largest numbers that ustar's octal fields hold; those of times are as long as those of sizes.
MAX_ID = 0o7777777
MAX_SIZE = 0o77777777777


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _split(name: bytes) -> tuple[bytes, bytes] | None:
    """Split a path into ustar's prefix (155 bytes) and name (100 bytes); None where it does not fit."""
    if len(name) <= 100:
        return b"", name
    cut = name.rfind(b"/", 0, 156)
    if cut <= 0 or len(name) - cut - 1 > 100 or cut == len(name) - 1:
        return None
    return name[:cut], name[cut + 1 :]


def _block(
    name: bytes, prefix: bytes, kind: bytes, entry: Entry | None, size: int, link: bytes = b""
) -> bytes:
    mode, uid, gid, mtime = (entry.mode, entry.uid, entry.gid, entry.mtime) if entry else (0o644, 0, 0, 0)
    major, minor = entry.device if entry else (0, 0)
    fields = (
        name.ljust(100, b"\0"),
        b"%07o\0" % mode,
        b"%07o\0" % (uid if uid <= MAX_ID else 0),
        b"%07o\0" % (gid if gid <= MAX_ID else 0),
        b"%011o\0" % (size if size <= MAX_SIZE else 0),
        b"%011o\0" % (mtime if 0 <= mtime <= MAX_SIZE else 0),
        b" " * 8,
        kind,
        link.ljust(100, b"\0"),
        b"ustar\00000",
        b"\0" * 64,  # uname and gname are empty: names would make the bytes depend on the host
        b"%07o\0" % major,
        b"%07o\0" % minor,
        prefix.ljust(167, b"\0"),
    )
    block = b"".join(fields)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _record(key: str, value: bytes) -> bytes:
    """One pax record, `LENGTH KEY=VALUE` and a line feed, where LENGTH counts itself."""
    rest = b" " + key.encode() + b"=" + value + b"\n"
    length = len(rest)
    while len(b"%d" % length) + len(rest) != length:
        length = len(b"%d" % length) + len(rest)
    return b"%d" % length + rest


def padding(size: int) -> bytes:
    """Return what follows a content of so many bytes: zeros, up to the next block."""
    return b"\0" * (-size % BLOCK)


def header(entry: Entry) -> bytes:
    """Return all header blocks of one entry."""
    name = _bytes(entry.path or ".") + (b"/" if entry.kind == "dir" else b"")
    link = _bytes(entry.link)
    size = entry.size if entry.kind == "file" else 0
    records: dict[str, bytes] = {}
    parts = _split(name) if name.isascii() else None
    if parts is None:
        records["path"] = name
        parts = b"", name[:100]
    if len(link) > 100 or not link.isascii():
        records["linkpath"] = link
    for key, value, limit in (
        ("uid", entry.uid, MAX_ID),
        ("gid", entry.gid, MAX_ID),
        ("size", size, MAX_SIZE),
    ):
        if value > limit:
            records[key] = b"%d" % value
    if not 0 <= entry.mtime <= MAX_SIZE:
        records["mtime"] = b"%d" % entry.mtime
    if entry.capability:
        records["SCHILY.xattr.security.capability"] = entry.capability
    extra = b""
    if records:
        body = b"".join(_record(key, records[key]) for key in sorted(records))
        extra = _block(b"././@PaxHeader", b"", b"x", None, len(body)) + body + padding(len(body))
    return extra + _block(parts[1], parts[0], TYPE[entry.kind], entry, size, link[:100])


class Writer:
    """Writes entries to `out` in the order given."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out, self._written = out, 0

    def add(self, entry: Entry, content: Iterable[bytes] = ()) -> int:
        """Write one entry; `content` yields exactly `entry.size` bytes where the entry is a file.

        Return how many bytes of the tar come before that content.
        """
        head = header(entry)
        self._out.write(head)
        start = self._written + len(head)
        for chunk in content:
            self._out.write(chunk)
        size = entry.size if entry.kind == "file" else 0
        if size:
            self._out.write(padding(size))
        self._written = start + size + -size % BLOCK
        return start

    def close(self) -> None:
        """Write END."""
        self._out.write(END)
