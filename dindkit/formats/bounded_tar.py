"""Read an untrusted tar within bounds on memory and on the size of what its members expand to.

Refused are sparse members, of which a few bytes can stand for any number of zeros, and large pax headers and
long names, which tarfile reads as a whole before their size can be checked.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import IO, Any, Self

#: Bytes of one pax header or long name. Paths have 4096, and extended attributes 65536: xattr(7).
MAX_HEADER = 1 << 20
#: Members of one tar: all are held in memory. Debian's largest package has some hundred thousand.
MAX_MEMBERS = 500_000

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

    def _refuse_sparse(self, *_words: Any) -> None:
        raise UnboundedError(f"{self.name!r} is a sparse file")

    # GNU tar's formats 0.0, 0.1 and 1.0 for sparse files in pax headers.
    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse_sparse


def bounded(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members of an archive that `reading` or `reading_file` opened. Raises UnboundedError."""
    for count, member in enumerate(archive):
        if count >= MAX_MEMBERS:
            raise UnboundedError(f"it has more than {MAX_MEMBERS} members")
        yield member


def reading(stream: IO[bytes]) -> tarfile.TarFile:
    """Open a tar that is read from front to back. Raises tarfile.TarError."""
    return tarfile.open(
        fileobj=stream, mode="r|", errors="surrogateescape", encoding="utf-8", tarinfo=BoundedMember
    )


def reading_file(file: IO[bytes]) -> tarfile.TarFile:
    """Open a tar, compressed or not, whose members can be read in any order. Raises tarfile.TarError."""
    return tarfile.open(fileobj=file, tarinfo=BoundedMember)
