"""One path of a root file system, as a tar has it."""

from __future__ import annotations

from dataclasses import dataclass

#: The pax record, and the extended attribute, that hold file capabilities: capabilities(7).
CAPABILITY = "security.capability"
PAX_CAPABILITY = "SCHILY.xattr." + CAPABILITY


@dataclass(frozen=True, slots=True)
class Entry:
    """One path of a tree. Paths are relative, without `./`; the root itself is the empty path."""

    path: str
    #: file, dir, symlink, hardlink, char, block or fifo
    kind: str
    #: Permission bits with set-uid, set-gid and sticky.
    mode: int
    uid: int = 0
    gid: int = 0
    #: Seconds since 1970.
    mtime: int = 0
    #: Bytes of a file.
    size: int = 0
    #: Target of a symbolic link; of a hard link the path of the first name.
    link: str = ""
    #: SHA-256 of a file's content, in hex.
    digest: str = ""
    #: The value of the extended attribute security.capability.
    capability: bytes = b""
    device: tuple[int, int] = (0, 0)


def by_bytes(path: str) -> bytes:
    """Sort key: the path's bytes, whatever the locale. Parents come before their children."""
    return path.encode("utf-8", "surrogateescape")
