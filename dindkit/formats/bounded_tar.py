"""Read an untrusted tar within bounds on memory and on the size of what its members expand to.

Refused are sparse members, of which a few bytes can stand for any number of zeros, and large pax headers and
long names, which tarfile reads as a whole before their size can be checked. Refused are numbers that no file
can have, too: tarfile takes 0 for a number that it cannot read, and accepts negative ones, where Go's reader,
and so Docker, refuses the archive.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator, Mapping
from typing import IO, Any, Self

#: Bytes of one pax header or long name. Paths have 4096, and extended attributes 65536: xattr(7).
MAX_HEADER = 1 << 20
#: Members of one tar: all are held in memory. Debian's largest package has some hundred thousand.
MAX_MEMBERS = 500_000

#: The numbers of pax headers that are checked: pax(1), "pax Extended Header". ASCII digits, no exponents.
PAX_NUMBERS = {
    "uid": re.compile(r"[0-9]{1,20}"),
    "gid": re.compile(r"[0-9]{1,20}"),
    "size": re.compile(r"[0-9]{1,20}"),
    "mtime": re.compile(r"-?[0-9]{1,20}(\.[0-9]*)?"),
}
#: The largest owner; one more is the -1 that chown(2) takes for "leave it".
MAX_OWNER = (1 << 32) - 2
#: Seconds around 1970; what archivers write for "no time", the year 1 among it, is within.
MAX_TIME = 1 << 36
#: The largest device numbers of Linux: makedev(3).
MAX_MAJOR, MAX_MINOR = (1 << 12) - 1, (1 << 20) - 1

#: Types whose content belongs to the header of the member that follows: tar(5).
HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class UnboundedError(tarfile.TarError):
    """A tar would take more memory or disk space than its size allows."""


class NumberError(tarfile.TarError):
    """A member has a number that no file can have, or that readers read differently."""


class BoundedMember(tarfile.TarInfo):
    """A tar member that is not sparse and whose headers are not too large."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Read one block of a header. Raises UnboundedError."""
        member = super().frombuf(buf, encoding, errors)
        if member.type == tarfile.GNUTYPE_SPARSE:
            raise UnboundedError(f"{member.name!r} is a sparse file")
        if member.type in HEADERS and not 0 <= member.size <= MAX_HEADER:
            raise UnboundedError(f"a header of {member.size} bytes belongs to one of its members")
        return member

    def _apply_pax_info(self, pax_headers: Mapping[str, str], encoding: str, errors: str) -> None:
        for keyword, form in PAX_NUMBERS.items():
            value = pax_headers.get(keyword, "0")
            if not form.fullmatch(value):
                raise NumberError(f"the {keyword} of {self.name!r} is {value[:40]!r}, which is no number")
        super()._apply_pax_info(pax_headers, encoding, errors)  # type: ignore[misc]

    def _refuse_sparse(self, *_words: Any) -> None:
        raise UnboundedError(f"{self.name!r} is a sparse file")

    # GNU tar's formats 0.0, 0.1 and 1.0 for sparse files in pax headers.
    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse_sparse


def _check_numbers(member: tarfile.TarInfo) -> None:
    """Refuse what no file has. Raises NumberError."""
    device = member.type in (tarfile.CHRTYPE, tarfile.BLKTYPE)
    for name, value, least, most in (
        ("mode", member.mode, 0, (1 << 32) - 1),
        ("uid", member.uid, 0, MAX_OWNER),
        ("gid", member.gid, 0, MAX_OWNER),
        ("size", member.size, 0, (1 << 63) - 1),
        ("mtime", member.mtime, -MAX_TIME, MAX_TIME),
        ("major number", member.devmajor if device else 0, 0, MAX_MAJOR),
        ("minor number", member.devminor if device else 0, 0, MAX_MINOR),
    ):
        if not least <= value <= most:
            raise NumberError(f"the {name} of {member.name!r} is {value}, which no file can have")


def bounded(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members of an archive that `reading` or `reading_file` opened.

    Raises UnboundedError and NumberError.
    """
    for count, member in enumerate(archive):
        if count >= MAX_MEMBERS:
            raise UnboundedError(f"it has more than {MAX_MEMBERS} members")
        _check_numbers(member)
        yield member


def reading(stream: IO[bytes]) -> tarfile.TarFile:
    """Open a tar that is read from front to back. Raises tarfile.TarError."""
    return tarfile.open(
        fileobj=stream, mode="r|", errors="surrogateescape", encoding="utf-8", tarinfo=BoundedMember
    )


def reading_file(file: IO[bytes]) -> tarfile.TarFile:
    """Open a tar, compressed or not, whose members can be read in any order. Raises tarfile.TarError."""
    return tarfile.open(fileobj=file, tarinfo=BoundedMember)
