"""Write a cpio archive of the format `newc`, which the kernel unpacks as its first root file system.

Format: https://docs.kernel.org/driver-api/early-userspace/buffer-format.html
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from typing import IO

from dindkit.formats.entry import Entry

KINDS = {"file": stat.S_IFREG, "dir": stat.S_IFDIR, "symlink": stat.S_IFLNK, "char": stat.S_IFCHR}
#: The name of the member that ends an archive.
END = Entry("TRAILER!!!", "file", 0)


def write(out: IO[bytes], content: Iterable[tuple[Entry, bytes]]) -> None:
    """Write entries with their contents: files, directories, symbolic links and character devices.

    Parents come before what is in them. An entry's own `size` and `digest` do not count.
    """
    for number, (entry, data) in enumerate(content, 1):
        out.write(_member(entry, number, entry.link.encode() if entry.kind == "symlink" else data))
    out.write(_member(END, 0, b""))


def _member(entry: Entry, number: int, data: bytes) -> bytes:
    mode = 0 if entry is END else KINDS[entry.kind] | entry.mode
    name = entry.path.encode() + b"\0"
    numbers = (
        number,
        mode,
        entry.uid,
        entry.gid,
        1,
        entry.mtime,
        len(data),
        0,
        0,
        *entry.device,
        len(name),
        0,
    )
    head = b"070701" + b"".join(b"%08X" % field for field in numbers) + name
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)
