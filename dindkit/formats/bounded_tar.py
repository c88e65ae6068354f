"""Read an untrusted tar within bounds on memory and on the size of what its members expand to.

Refused are sparse members, of which a few bytes can stand for any number of zeros, and large pax headers and
long names, which tarfile reads as a whole before their size can be checked. Refused are numbers that no file
can have, too: tarfile takes 0 for a number that it cannot read, and accepts negative ones, where Go's reader,
and so Docker, refuses the archive.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Collection, Iterator, Mapping
from typing import IO, Any, Self

from dindkit.formats.entry import PAX_CAPABILITY
from dindkit.formats.forward import Forward, Stream
from dindkit.formats.tar_headers import NUMBERS, OCTAL

#: Bytes of one pax header or long name. Paths have 4096, and extended attributes 65536: xattr(7).
MAX_HEADER = 1 << 20
#: Records of one pax header.
MAX_RECORDS = 1000
#: Characters of the names and links of all members of one tar: all are held in memory.
MAX_NAMES = 1 << 27
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

#: What pax headers say of a member: pax(1). Others are extended attributes and comments.
FIELDS = {"path", "linkpath", "size", "uid", "gid", "uname", "gname", "mtime", "hdrcharset"}
#: The records of a pax header that are looked at later.
KEPT = (PAX_CAPABILITY,)
#: Where the checksum of a header is, and what other numbers that are not octal begin with: tar(5).
CHECKSUM, BINARY = 148, b"\x80\xff"
_LENGTH = re.compile(rb"([0-9]{1,7}) ")

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


class AmbiguousError(tarfile.TarError):
    """A member's headers are read differently by tarfile and by Go's reader, and so by Docker."""


class BoundedMember(tarfile.TarInfo):
    """A tar member that is not sparse and whose headers are neither too large nor read in two ways."""

    #: The headers before this member's own, by type, and whether a pax header among them names it.
    _headers: tuple[bytes, ...] = ()
    _named = False

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Read one block of a header. Raises tarfile.TarError."""
        _check_block(bytes(buf))
        return super().frombuf(buf, encoding, errors)

    @classmethod
    def _frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str, **words: Any) -> Self:
        """Do the same for newer versions of tarfile, which do not call `frombuf`."""
        _check_block(bytes(buf))
        return super()._frombuf(buf, encoding, errors, **words)  # type: ignore[misc,no-any-return]

    def _proc_member(self, archive: tarfile.TarFile) -> BoundedMember:
        """Read what follows one block of a header. Raises tarfile.TarError."""
        if self.type == tarfile.GNUTYPE_SPARSE:
            raise UnboundedError(f"{self.name!r} is a sparse file")
        if self.type not in HEADERS:
            return super()._proc_member(archive)  # type: ignore[misc,no-any-return]
        if not 0 <= self.size <= MAX_HEADER:
            raise UnboundedError(f"a header of {self.size} bytes belongs to one of its members")
        if self.type == tarfile.SOLARIS_XHDTYPE:
            raise AmbiguousError(f"{self.name!r} is a header of Solaris's, which is a file to others")
        found: BoundedMember = super()._proc_member(archive)  # type: ignore[misc]
        long = {tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK}
        found._headers += (self.type,)
        if len(set(found._headers)) < len(found._headers) or (found._named and long & {*found._headers}):
            raise AmbiguousError(f"{found.name!r} has two headers that say the same of it")
        return found

    def _proc_pax(self, archive: Any) -> BoundedMember:
        stream = archive.fileobj
        text = stream.read(self._block(self.size))  # type: ignore[attr-defined]
        records = _records(text[: self.size])
        if self.type == tarfile.XGLTYPE:
            _check_global({*records, *archive.pax_headers})
        archive.fileobj = _Again(text, stream)
        try:
            found: BoundedMember = super()._proc_pax(archive)  # type: ignore[misc]
        finally:
            archive.fileobj = stream
        found._named = found._named or bool({"path", "linkpath"} & records.keys())
        return found

    def _apply_pax_info(self, pax_headers: Mapping[str, str], encoding: str, errors: str) -> None:
        for keyword, form in PAX_NUMBERS.items():
            value = pax_headers.get(keyword, "0")
            if not form.fullmatch(value):
                raise NumberError(f"the {keyword} of {self.name!r} is {value[:40]!r}, which is no number")
        super()._apply_pax_info(pax_headers, encoding, errors)  # type: ignore[misc]
        # Members are kept as long as an archive is open; nothing else in these headers is of use.
        self.pax_headers = {name: self.pax_headers[name] for name in KEPT if name in self.pax_headers}

    def _refuse_sparse(self, *_words: Any) -> None:
        raise UnboundedError(f"{self.name!r} is a sparse file")

    # GNU tar's formats 0.0, 0.1 and 1.0 for sparse files in pax headers.
    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse_sparse


def _check_block(block: bytes) -> None:
    """Refuse a header at which tarfile would end the archive, and Go's reader would not. Raises TarError."""
    if not any(block):
        return  # the end
    if len(block) < tarfile.BLOCKSIZE:
        raise tarfile.ReadError("it is cut short")
    name = block[:100].partition(b"\0")[0].decode(errors="replace")
    said = block[CHECKSUM : CHECKSUM + 8]
    wanted = int(said.strip(b" \0") or b"0", 8) if OCTAL.fullmatch(said) else -1
    if wanted != _sum(block) and wanted not in tarfile.calc_chksums(block):  # type: ignore[attr-defined]
        raise tarfile.ReadError(f"the header of {name!r} is damaged")
    numbers = all(
        OCTAL.fullmatch(block, start, start + size) or block[start] in BINARY for start, size in NUMBERS
    )
    if not numbers or (block[345] and block[257:263] != b"ustar\0"):
        raise AmbiguousError(f"the header of {name!r} can be read in two ways")


def _sum(block: bytes) -> int:
    return sum(block) - sum(block[CHECKSUM : CHECKSUM + 8]) + 8 * ord(" ")


class _Again:
    """A stream whose next read gives `text`, which was read from it already."""

    def __init__(self, text: bytes, stream: Any) -> None:
        self._text: bytes | None = text
        self._stream = stream

    def read(self, size: int) -> bytes:
        text, self._text = self._text, None
        return bytes(self._stream.read(size)) if text is None else text

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _records(text: bytes) -> dict[str, bytes]:
    """Return the records of a pax header, `LENGTH KEY=VALUE` and a line feed each. Raises tarfile.TarError.

    tarfile's own reading takes a time that grows with the square of the length where there is no record.
    """
    found: dict[str, bytes] = {}
    at = 0
    while at < len(text):
        length = _LENGTH.match(text, at)
        end = at + int(length[1]) if length else at
        key, equals, value = text[length.end() : end - 1].partition(b"=") if length else (b"", b"", b"")
        if not (length and key and equals and length.end() < end <= len(text) and text[end - 1] == 0x0A):
            raise tarfile.ReadError("a pax header is damaged")
        name = key.decode("utf-8", "surrogateescape")
        if name in ("path", "linkpath") and (not value or b"\0" in value):
            raise AmbiguousError(f"a pax header has the {name} {value[:40]!r}")
        found[name] = value
        if len(found) > MAX_RECORDS:
            raise UnboundedError(f"a pax header has more than {MAX_RECORDS} records")
        at = end
    return found


def _check_global(names: Collection[str]) -> None:
    """Refuse global pax headers that change members: Go's reader passes over them."""
    changing = sorted(name for name in names if name in FIELDS or name.startswith(("GNU.sparse.", "SCHILY.")))
    if changing:
        raise AmbiguousError(f"a header for all members has their {changing[0]}")
    if len(names) > MAX_RECORDS:
        raise UnboundedError(f"its headers for all members have more than {MAX_RECORDS} records")


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
    count, left = 0, MAX_NAMES
    while (member := archive.next()) is not None:
        count += 1
        if count > MAX_MEMBERS:
            raise UnboundedError(f"it has more than {MAX_MEMBERS} members")
        left -= len(member.name) + len(member.linkname)
        if left < 0:
            raise UnboundedError(f"the names of its members have more than {MAX_NAMES} characters")
        _check_numbers(member)
        yield member
        if isinstance(archive, _Streamed):
            archive.members.clear()  # type: ignore[attr-defined]


class _Streamed(tarfile.TarFile):
    """A tar that is read once; what was read is not kept."""


def reading(stream: Stream) -> tarfile.TarFile:
    """Open a tar that is read from front to back. Raises tarfile.TarError."""
    file: Any = Forward(stream)
    return _Streamed(fileobj=file, errors="surrogateescape", encoding="utf-8", tarinfo=BoundedMember)


def reading_file(file: IO[bytes]) -> tarfile.TarFile:
    """Open a tar whose members can be read in any order. Raises tarfile.TarError."""
    return tarfile.open(fileobj=file, mode="r:", tarinfo=BoundedMember)
