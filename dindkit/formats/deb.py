"""Read binary packages, deb(5): an ar archive with debian-binary, control.tar and data.tar. Trusts nothing.

A package that passes `inspect` has the name, version and architecture that its row promises, holds only paths
and links that stay inside the root, and unpacks to no more than it may. dpkg unpacks the same file later, so
whatever it could read in another way than this module is refused.
"""

from __future__ import annotations

import lzma
import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import IO, Any, Protocol

import zstandard

from dindkit.errors import DindkitError
from dindkit.formats.tar_headers import AmbiguousError, Headers
from dindkit.formats.tree import KINDS, clean
from dindkit.packages import stanza
from dindkit.packages.stanza import StanzaError

#: A package may unpack to this many bytes; Debian's largest is well below.
MAX_UNPACKED = 4_000_000_000
#: And a control archive to this many.
MAX_CONTROL = 50_000_000
#: Its file `control`, of which an index repeats most, has this many.
MAX_CONTROL_FILE = 4_000_000
#: And debian-binary, a line with a number and lines for readers to come, has this many.
MAX_VERSION = 4096

#: What a package consists of, in this order; a suffix says how a tar is compressed.
VERSION, CONTROL, DATA = PARTS = ("debian-binary", "control.tar", "data.tar")


class DebError(DindkitError):
    """A package is not what it should be."""

    def __init__(self, package: str, problem: str) -> None:
        super().__init__(
            f"The package {package} is refused: {problem}.",
            "Nothing of it was used. Run `invoke lock` to take another version, or report it to its archive.",
        )


class Wanted(Protocol):
    """What a package must say of itself; a lock's row has these fields."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def version(self) -> str: ...  # noqa: D102
    @property
    def architecture(self) -> str: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Member:
    """One path in data.tar. `link` is a symbolic link's target, or a hard link's first name."""

    path: str
    kind: str
    mtime: int
    link: str = ""


@dataclass(frozen=True)
class Deb:
    """A package that passed inspection."""

    name: str
    control: Mapping[str, str]
    members: tuple[Member, ...]
    #: Bytes of all its files.
    unpacked: int


class _Slice(RawIOBase):
    """`size` bytes of a file from where it stands."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._left = file, size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(min(len(buffer), self._left))
        self._left -= len(data)
        buffer[: len(data)] = data
        return len(data)


class _Decoder(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


class _Bounded(RawIOBase):
    """Decompresses the tar in `source`; refuses to give more than `limit` bytes, or to leave any unread."""

    def __init__(self, source: IO[bytes], decoder: _Decoder | None, limit: int, package: str) -> None:
        self._source, self._decoder, self._left, self._package = source, decoder, limit, package
        self._headers = Headers()
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            data = self._source.read(1 << 13)
            if not data:
                if self._decoder and not self._decoder.eof:
                    raise DebError(self._package, "it is cut short")
                return 0
            self._ready = memoryview(self._decode(data))
            self._left -= len(self._ready)
            if self._left < 0:
                raise DebError(self._package, "it unpacks to more than it may")
            try:
                self._headers.follow(self._ready)
            except AmbiguousError as error:
                raise DebError(self._package, str(error)) from None
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def _decode(self, data: bytes) -> bytes:
        if self._decoder is None:
            return data
        plain = self._decoder.decompress(data)
        if self._decoder.unused_data:  # dpkg goes on with a second member of gzip
            raise DebError(self._package, "bytes follow the end of its compressed data")
        return plain


def _decoder(suffix: str, package: str) -> _Decoder | None:
    if suffix == "":
        return None
    if suffix == ".gz":
        return zlib.decompressobj(zlib.MAX_WBITS | 16)
    if suffix == ".xz":
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=1 << 30)
    if suffix == ".zst":
        return zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
    raise DebError(package, f"its parts are compressed as {suffix}, which deb(5) does not know")


def _parts(file: IO[bytes], package: str) -> Iterator[tuple[str, str, int]]:
    """Yield name, compression's suffix and size of each of PARTS; the file then stands at its content.

    Members whose names begin with an underscore are passed over, as dpkg-deb does. It does not look at what
    comes after data.tar, where some have a signature with such a name; anything else is refused there too.
    """
    if file.read(8) != b"!<arch>\n":
        raise DebError(package, "it is not an ar archive")
    expected = list(PARTS)
    while head := file.read(60):
        if len(head) != 60 or head[58:] != b"`\n":
            raise DebError(package, "it is cut short or damaged")
        digits = head[48:58].strip(b" ")
        if not digits.isdigit() or not head[:16].isascii():
            raise DebError(package, "it is damaged")
        name, size = head[:16].decode().rstrip(" ").removesuffix("/"), int(digits)
        end = file.tell() + size + size % 2
        if not name.startswith("_") or VERSION in expected:
            if not expected or not name.startswith(expected[0]):
                raise DebError(package, f"its member {name} is not where deb(5) has one")
            yield expected[0], name.removeprefix(expected.pop(0)), size
        file.seek(end)
    if expected:
        raise DebError(package, f"it has no {expected[0]}")


@contextmanager
def _open(file: IO[bytes], suffix: str, size: int, limit: int, package: str) -> Iterator[tarfile.TarFile]:
    """Open one of the two tars; what follows its end mark is read too, so that no damage goes unseen."""
    decoder = _decoder(suffix, package)
    source = BufferedReader(_Bounded(_Slice(file, size), decoder, limit, package), 1 << 18)  # type: ignore[arg-type]
    with tarfile.open(fileobj=source, mode="r|", errors="surrogateescape", encoding="utf-8") as archive:
        yield archive
        while source.read(1 << 20):
            pass


def _control(archive: tarfile.TarFile, package: str) -> Mapping[str, str]:
    found: Mapping[str, str] = {}
    names = set[str]()
    for member in archive:
        name = clean(member.name)
        if name == "" and member.isdir():
            continue
        if not member.isfile() or "/" in name:
            raise DebError(package, f"its control archive holds {member.name}, which is not a plain file")
        if name in names:
            raise DebError(package, f"its control archive holds {name} twice")
        names.add(name)
        if name == "control" and (content := archive.extractfile(member)):
            if member.size > MAX_CONTROL_FILE:
                raise DebError(package, f"its control file has more than {MAX_CONTROL_FILE} bytes")
            try:
                found = stanza.fields(content.read().decode("utf-8", "replace"))
            except StanzaError as error:
                raise DebError(package, f"in its control file: {error.problem}") from None
    return found


def _inside(path: str, link: str) -> bool:
    """Tell whether a symbolic link at `path` stays below the root; an absolute one starts at the root."""
    depth = 0 if link.startswith("/") else path.count("/")
    for part in link.split("/"):
        if part == "..":
            depth -= 1
        elif part not in ("", "."):
            depth += 1
        if depth < 0:
            return False
    return True


def _member(info: tarfile.TarInfo, files: set[str], package: str) -> Member:
    kind = KINDS.get(info.type)
    if kind not in ("file", "dir", "symlink", "hardlink"):
        raise DebError(package, f"{info.name} is a device, a pipe, or of an unknown kind")
    path = clean(info.name)
    if info.name.startswith("/") or ".." in path.split("/") or "\0" in path or "\n" in path:
        raise DebError(package, f"its path {info.name!r} leads outside the root")
    if any(part in ("", ".") for part in path.split("/")) and path:
        raise DebError(package, f"its path {info.name!r} is not a plain one")
    link = info.linkname if kind == "symlink" else clean(info.linkname)
    if kind == "symlink" and not _inside(path, link):
        raise DebError(package, f"its link {info.name} leads outside the root, to {link}")
    if kind == "hardlink" and link not in files:
        raise DebError(package, f"its hard link {info.name} points to {link}, which is no file of it")
    return Member(path, kind, int(info.mtime), link if kind in ("symlink", "hardlink") else "")


def _members(archive: tarfile.TarFile, package: str) -> tuple[tuple[Member, ...], int]:
    members, files, unpacked = [], set[str](), 0
    for info in archive:
        member = _member(info, files, package)
        if member.kind in ("file", "hardlink"):
            files.add(member.path)
        unpacked += info.size
        members.append(member)
    return tuple(members), unpacked


def _known(suffix: str, version: bytes, package: str) -> None:
    """Check the content of debian-binary: 2, any minor number, and lines that later minor numbers may add."""
    if suffix or not re.match(rb"2\.[0-9]+\n", version):
        raise DebError(package, "it is of an unknown format version")


def _agree(control: Mapping[str, str], row: Wanted) -> None:
    told = (("Package", row.name), ("Version", row.version), ("Architecture", row.architecture))
    for field, wanted in told:
        if control.get(field) != wanted:
            raise DebError(
                row.name, f"its {field} is {control.get(field, 'missing')}, the lock says {wanted}"
            )


def inspect(path: Path, row: Wanted, limit: int = MAX_UNPACKED) -> Deb:
    """Read the whole package at `path` and return what is in it; raises as `read` does."""
    with path.open("rb") as file:
        return read(file, row, limit)


def read(file: IO[bytes], row: Wanted, limit: int = MAX_UNPACKED) -> Deb:
    """Read the whole package in `file`, which can seek, and return what is in it.

    Raises DebError, which names the package and the path, where it breaks deb(5), differs from `row`, would
    put anything outside its root, or unpacks to more than `limit` bytes.
    """
    control: Mapping[str, str] = {}
    members: tuple[Member, ...] = ()
    unpacked = 0
    try:
        for name, suffix, size in _parts(file, row.name):
            if name == VERSION:
                _known(suffix, file.read(min(size, MAX_VERSION)), row.name)
            elif name == CONTROL:
                with _open(file, suffix, size, MAX_CONTROL, row.name) as archive:
                    control = _control(archive, row.name)
            else:
                with _open(file, suffix, size, limit, row.name) as archive:
                    members, unpacked = _members(archive, row.name)
    except (tarfile.TarError, lzma.LZMAError, zlib.error, zstandard.ZstdError, EOFError) as error:
        raise DebError(row.name, f"it is damaged ({error})") from error
    _agree(control, row)
    return Deb(row.name, control, members, unpacked)


@contextmanager
def data(file: IO[bytes], package: str) -> Iterator[tarfile.TarFile]:
    """Open the data.tar of a package that has been read; `file` can seek."""
    for name, suffix, size in _parts(file, package):
        if name == DATA:
            with _open(file, suffix, size, MAX_UNPACKED, package) as archive:
                yield archive
            return
