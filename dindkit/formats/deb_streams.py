"""The bytes of a package: read once and hashed, cut into members, and decompressed within bounds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import IO, Protocol

from dindkit.errors import DindkitError
from dindkit.formats.decompression import DECOMPRESSED, decoder_of, decompressed
from dindkit.formats.tar_headers import AmbiguousError, Headers

#: How the parts of a package may be compressed, beside not at all.
SUFFIXES = (".gz", ".xz", ".zst")


class DebError(DindkitError):
    """A package is not what it should be."""

    def __init__(self, package: str, problem: str) -> None:
        super().__init__(
            f"The package {package} is refused: {problem}.",
            "Nothing of it was used. Run `invoke lock` to take another version, or report it to its archive.",
        )


class Output(Protocol):
    """The file that the uncompressed package is written to."""

    def write(self, data: bytes | memoryview, /) -> int: ...  # noqa: D102
    def seek(self, offset: int, /) -> int: ...  # noqa: D102
    def tell(self) -> int: ...  # noqa: D102


class Hashed:
    """Reads a file once, from its start, and hashes it: at most `limit` bytes, and one more."""

    def __init__(self, file: IO[bytes], limit: int) -> None:
        self._file, self._left, self._at = file, limit + 1, 0
        self._hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, at most `size`."""
        data = self._file.read(self._left if size < 0 else min(size, self._left))
        self._hash.update(data)
        self._left -= len(data)
        self._at += len(data)
        return data

    def tell(self) -> int:
        """Return how many bytes were read."""
        return self._at

    def seek(self, offset: int) -> int:
        """Read on to `offset`; going back is not possible."""
        while self._at < offset and self.read(min(offset - self._at, 1 << 20)):
            pass
        return self._at

    def finish(self) -> tuple[str, int]:
        """Read the rest; return the SHA-256 and the number of all bytes."""
        while self.read(1 << 20):
            pass
        return self._hash.hexdigest(), self._at


class Slice:
    """The next `size` bytes of a file."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._left = file, size

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most `size`, none at the end. Raises EOFError if the file ends before."""
        data = self._file.read(min(size, self._left))
        if not data and size and self._left:
            raise EOFError("it is cut short")
        self._left -= len(data)
        return data


def plain_tar(source: Slice, suffix: str, limit: int, package: str, out: Output | None) -> Iterator[bytes]:
    """Yield the tar in `source`, decompressed, and write it to `out`.

    Raises DebError where it has more than `limit` bytes, bytes after its end, or an ambiguous header.
    """
    headers = Headers()
    for chunk in _chunks(source, suffix, package):
        limit -= len(chunk)
        if limit < 0:
            raise DebError(package, "it unpacks to more than it may")
        try:
            headers.follow(memoryview(chunk))
        except AmbiguousError as error:
            raise DebError(package, str(error)) from None
        if out:
            out.write(chunk)
        yield chunk


def _chunks(source: Slice, suffix: str, package: str) -> Iterator[bytes]:
    """Yield the content of a part that is compressed as `suffix` says. Raises DebError."""
    if suffix not in ("", *SUFFIXES):
        raise DebError(package, f"its parts are compressed as {suffix}, which deb(5) does not know")
    try:
        if suffix == "":
            yield from iter(lambda: source.read(DECOMPRESSED), b"")
            return
        decoder = decoder_of(suffix)
        yield from decompressed(source, decoder)
        more = decoder.unused_data or source.read(1)
    except EOFError as error:
        raise DebError(package, str(error)) from None
    if more:  # dpkg would read on in a second gzip member
        raise DebError(package, "bytes follow the end of its compressed data")
