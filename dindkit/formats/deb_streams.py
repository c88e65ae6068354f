"""The bytes of a package: read once and hashed, cut into members, and decompressed within bounds."""

from __future__ import annotations

import hashlib
import lzma
import zlib
from io import RawIOBase
from typing import IO, Any, Protocol

import zstandard

from dindkit.errors import DindkitError
from dindkit.formats.tar_headers import AmbiguousError, Headers


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


#: Compressed bytes that are read at a time. zstd makes 128 kB of four bytes: these become 128 MB.
COMPRESSED = 1 << 12


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


class Slice(RawIOBase):
    """The next `size` bytes of a file."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._left = file, size

    def readable(self) -> bool:
        """Say that it is for reading."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` as far as bytes are there; return how many."""
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


class Bounded(RawIOBase):
    """Decompresses the tar in `source`; refuses more than `limit` bytes, and unread bytes at the end."""

    def __init__(
        self, source: IO[bytes], decoder: _Decoder | None, limit: int, package: str, out: Output | None
    ) -> None:
        self._source, self._decoder, self._left, self._package = source, decoder, limit, package
        self._out = out
        self._headers = Headers()
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        """Say that it is for reading."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` as far as bytes are there; return how many."""
        while not self._ready:
            data = self._source.read(COMPRESSED)
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
            if self._out:
                self._out.write(self._ready)
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def _decode(self, data: bytes) -> bytes:
        if self._decoder is None:
            return data
        plain = self._decoder.decompress(data)
        if self._decoder.unused_data:  # dpkg would read on in a second gzip member
            raise DebError(self._package, "bytes follow the end of its compressed data")
        return plain


def decoder_of(suffix: str, package: str) -> _Decoder | None:
    """Return the decompressor for this suffix, or None for an uncompressed part. Raises DebError."""
    if suffix == "":
        return None
    if suffix == ".gz":
        return zlib.decompressobj(zlib.MAX_WBITS | 16)
    if suffix == ".xz":
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=1 << 30)
    if suffix == ".zst":
        return zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
    raise DebError(package, f"its parts are compressed as {suffix}, which deb(5) does not know")
