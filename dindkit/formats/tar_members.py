"""Members of a tar as entries of a tree."""

from __future__ import annotations

import tarfile

from dindkit.formats.entry import PAX_CAPABILITY, Entry

#: The kinds of Entry, by the types of members.
KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.DIRTYPE: "dir",
    tarfile.SYMTYPE: "symlink",
    tarfile.LNKTYPE: "hardlink",
    tarfile.CHRTYPE: "char",
    tarfile.BLKTYPE: "block",
    tarfile.FIFOTYPE: "fifo",
}


def clean(name: str) -> str:
    """Return a tar member's name as an Entry's path."""
    return name.removeprefix("./").strip("/") if name not in (".", "./", "/") else ""


def described(member: tarfile.TarInfo) -> Entry:
    """Return the entry of a member, its names as they are, and no digest. Raises tarfile.TarError."""
    kind = KINDS.get(member.type)
    if kind is None:
        raise tarfile.TarError(f"{member.name} is of an unknown type {member.type!r}")
    return Entry(
        path=member.name,
        kind=kind,
        mode=member.mode & 0o7777,
        uid=member.uid,
        gid=member.gid,
        mtime=int(member.mtime),
        size=member.size if kind == "file" else 0,
        link=member.linkname if kind in ("symlink", "hardlink") else "",
        capability=member.pax_headers.get(PAX_CAPABILITY, "").encode("utf-8", "surrogateescape"),
        device=(member.devmajor, member.devminor) if kind in ("char", "block") else (0, 0),
    )
