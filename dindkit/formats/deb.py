"""Read binary packages, deb(5): an ar archive with debian-binary, control.tar and data.tar. Trusts nothing.

A package that passes `inspect` has the name, version and architecture that its row promises, holds only paths
and links that stay inside the root, and unpacks to no more than it may. dpkg unpacks the same file later, so
everything that it could read differently is refused.
"""

from __future__ import annotations

import hashlib
import re
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Protocol

from dindkit.formats.bounded_tar import bounded, reading
from dindkit.formats.deb_streams import DebError as DebError
from dindkit.formats.deb_streams import Hashed as Hashed
from dindkit.formats.deb_streams import Output, Slice, plain_tar
from dindkit.formats.decompression import DamagedStreamError
from dindkit.formats.entry import Entry
from dindkit.formats.forward import BUFFER, Chunked, Content
from dindkit.formats.tar_members import KINDS, clean
from dindkit.packages import stanza
from dindkit.packages.stanza import StanzaError

#: Bytes that a package may unpack to; Debian's largest package is well below.
MAX_UNPACKED = 4_000_000_000
#: Bytes that its control archive may unpack to.
MAX_CONTROL = 50_000_000
#: Bytes of its file `control`.
MAX_CONTROL_FILE = 4_000_000
#: Names of the files in its control archive: dpkg makes `info/PACKAGE.NAME` of them.
CONTROL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
#: Bytes of debian-binary: a line with the version, and lines that later versions may add.
MAX_VERSION = 4096

#: What an ar archive begins with, and the bytes of a member's header.
MAGIC, HEAD = b"!<arch>\n", 60
#: What a package consists of, in this order; a suffix says how a tar is compressed.
VERSION, CONTROL, DATA = PARTS = ("debian-binary", "control.tar", "data.tar")


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
    """One path in data.tar."""

    #: `link` is a symbolic link's target, or a hard link's first name.
    entry: Entry
    #: Offset of a file's content in the uncompressed package, in bytes.
    start: int = 0

    @property
    def path(self) -> str:
        """Relative to the root."""
        return self.entry.path

    @property
    def kind(self) -> str:
        """As an Entry's: file, dir, symlink or hardlink."""
        return self.entry.kind

    @property
    def mtime(self) -> int:
        """Seconds since 1970."""
        return self.entry.mtime

    @property
    def link(self) -> str:
        """A symbolic link's target, or a hard link's first name."""
        return self.entry.link


@dataclass(frozen=True)
class Deb:
    """A package that passed inspection."""

    name: str
    control: Mapping[str, str]
    members: tuple[Member, ...]
    #: Bytes of all its files.
    unpacked: int
    #: Path of the uncompressed package.
    file: Path = Path()


def _parts(file: IO[bytes], package: str) -> Iterator[tuple[str, str, int]]:
    """Yield name, compression suffix and size of each of PARTS; the file is then positioned at its content.

    Members whose names begin with an underscore are skipped, as dpkg-deb does; some packages have such a
    signature after data.tar. dpkg-deb ignores everything after data.tar; here, any other member is refused.
    """
    if file.read(8) != MAGIC:
        raise DebError(package, "it is not an ar archive")
    expected = list(PARTS)
    while head := file.read(HEAD):
        if len(head) != HEAD or head[58:] != b"`\n":
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
def _open(
    file: IO[bytes], suffix: str, size: int, limit: int, package: str, out: Output | None = None
) -> Iterator[tarfile.TarFile]:
    """Open one of the two tars, and write all of it to `out`.

    It is read beyond its end mark, so that damage there is noticed.
    """
    source = Chunked(plain_tar(Slice(file, size), suffix, limit, package, out))
    with reading(source) as archive:
        yield archive
        while source.read(BUFFER):
            pass


def _control(archive: tarfile.TarFile, package: str) -> Mapping[str, str]:
    found: Mapping[str, str] = {}
    names = set[str]()
    for member in bounded(archive):
        name = clean(member.name)
        if name == "" and member.isdir():
            continue
        if not member.isfile() or not CONTROL_NAME.fullmatch(name):
            raise DebError(package, f"its control archive holds {member.name}, which is not a plain file")
        if name in names:
            raise DebError(package, f"its control archive holds {name} twice")
        names.add(name)
        if name == "control":
            if member.size > MAX_CONTROL_FILE:
                raise DebError(package, f"its control file has more than {MAX_CONTROL_FILE} bytes")
            try:
                found = stanza.fields(Content(archive, member).read().decode("utf-8", "replace"))
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


def _member(info: tarfile.TarInfo, files: set[str], package: str) -> Entry:
    kind = KINDS.get(info.type)
    if kind not in ("file", "dir", "symlink", "hardlink"):
        raise DebError(package, f"{info.name} is a device, a pipe, or of an unknown kind")
    path = clean(info.name)
    if info.name.startswith("/") or ".." in path.split("/") or "\0" in path:
        raise DebError(package, f"its path {info.name!r} leads outside the root")
    if "\n" in path:
        raise DebError(package, f"its path {info.name!r} has more than one line, as no list of dpkg's could")
    if any(part in ("", ".") for part in path.split("/")) and path:
        raise DebError(package, f"its path {info.name!r} is not a plain one")
    link = info.linkname if kind == "symlink" else clean(info.linkname)
    if kind == "symlink" and not link:
        raise DebError(package, f"its link {info.name} leads nowhere")
    if kind == "symlink" and not _inside(path, link):
        raise DebError(package, f"its link {info.name} leads outside the root, to {link}")
    if kind == "hardlink" and link not in files:
        raise DebError(package, f"its hard link {info.name} points to {link}, which is no file of it")
    return Entry(
        path,
        kind,
        info.mode & 0o7777,
        info.uid,
        info.gid,
        int(info.mtime),
        info.size if kind == "file" else 0,
        link if kind in ("symlink", "hardlink") else "",
    )


def _members(archive: tarfile.TarFile, package: str, start: int) -> tuple[tuple[Member, ...], int]:
    """Return the members of data.tar, which begins at offset `start`, and the bytes of all its files."""
    members, files, unpacked = [], set[str](), 0
    seen: dict[str, Entry] = {}
    for info in bounded(archive):
        entry = _member(info, files, package)
        first = seen.setdefault(entry.path, entry)
        if first is not entry and (entry.kind != "dir" or first != replace(entry, mtime=first.mtime)):
            raise DebError(package, f"it holds {info.name} twice")
        if entry.kind in ("file", "hardlink"):
            files.add(entry.path)
        if entry.kind == "file":
            entry = replace(entry, digest=_digest(Content(archive, info)))
        unpacked += info.size
        members.append(Member(entry, start + info.offset_data))
    return tuple(members), unpacked


def _digest(content: Content) -> str:
    digest = hashlib.sha256()
    while chunk := content.read(1 << 18):
        digest.update(chunk)
    return digest.hexdigest()


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


def read(file: IO[bytes] | Hashed, row: Wanted, limit: int = MAX_UNPACKED, out: Output | None = None) -> Deb:
    """Read the whole package in `file`, from its start, and return what is in it.

    The checked bytes are written to `out` as a package whose parts are not compressed. Raises DebError, which
    names the package and the path, where it breaks deb(5), differs from `row`, would put anything outside its
    root, or unpacks to more than `limit` bytes.
    """
    control: Mapping[str, str] = {}
    members: tuple[Member, ...] = ()
    unpacked = 0
    source: Any = file
    if out:
        out.write(MAGIC)
    try:
        for name, suffix, size in _parts(source, row.name):
            with _wrapped(name, out) as start:
                if name == VERSION:
                    version = source.read(min(size, MAX_VERSION))
                    _known(suffix, version, row.name)
                    if out:
                        out.write(version)
                elif name == CONTROL:
                    with _open(source, suffix, size, MAX_CONTROL, row.name, out) as archive:
                        control = _control(archive, row.name)
                else:
                    with _open(source, suffix, size, limit, row.name, out) as archive:
                        members, unpacked = _members(archive, row.name, start)
    except (tarfile.TarError, DamagedStreamError, EOFError) as error:
        raise DebError(row.name, f"it is damaged ({error})") from error
    _agree(control, row)
    return Deb(row.name, control, members, unpacked)


@contextmanager
def _wrapped(name: str, out: Output | None) -> Iterator[int]:
    """Write the member `name` of an ar archive to `out` in the block; yield its content's offset."""
    if out is None:
        yield 0
        return
    head = out.tell()
    out.write(_head(name, 0))
    start = out.tell()
    yield start
    end = out.tell()
    out.seek(head)
    out.write(_head(name, end - start))
    out.seek(end)
    out.write(b"\n" * ((end - start) % 2))


def _head(name: str, size: int) -> bytes:
    return f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{size:<10}`\n".encode()
