"""Read streams from front to back: what tarfile takes for a file, and the content of its members."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import Any, Protocol

#: Bytes that are read from the stream at a time.
BUFFER = 1 << 18


class Stream(Protocol):
    """What can be read from front to back."""

    def read(self, size: int, /) -> bytes:
        """Return the next bytes, at most `size`; none at the end."""
        ...


class Forward:
    """What tarfile takes for a file, over a stream: it seeks forward only, and headers are cut from a buffer.

    tarfile's own streams (mode `r|`) copy all that is left of a buffer at each header.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._buffer, self._at = b"", 0
        self._position = 0

    def tell(self) -> int:
        """Return how many bytes were read or skipped."""
        return self._position

    def seek(self, offset: int) -> int:
        """Skip to `offset`, or to the end. Raises tarfile.StreamError for what has been read already."""
        if offset < self._position:
            raise tarfile.StreamError("the tar is a stream, which can only be read forward")
        while self._position < offset and self._some(offset - self._position):
            pass
        return self._position

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes, fewer at the end."""
        data = self._some(size)
        if len(data) == size:
            return data
        parts, left = [data], size - len(data)
        while left and (data := self._some(left)):
            parts.append(data)
            left -= len(data)
        return b"".join(parts)

    def _some(self, size: int) -> bytes:
        """Return at least one of the next bytes, at most `size`; none at the end."""
        if self._at < len(self._buffer) or size < BUFFER:
            if self._at == len(self._buffer):
                self._buffer, self._at = self._stream.read(BUFFER), 0
            data = self._buffer[self._at : self._at + size]
            self._at += len(data)
        else:
            data = self._stream.read(size)
        self._position += len(data)
        return data


class Chunked:
    """A stream of what an iterator yields; reading raises what that raises."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._ready = memoryview(b"")

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most `size`; none at the end."""
        if not self._ready:
            self._ready = memoryview(next(self._chunks, b""))
        data, self._ready = self._ready[:size], self._ready[size:]
        return bytes(data)


class Content:
    """The content of a member at which an archive that reads forward has just arrived."""

    def __init__(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        self._file: Any = archive.fileobj
        self._file.seek(member.offset_data)
        self._left = member.size

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, at most `size`. Raises tarfile.ReadError where the tar has ended before."""
        wanted = min(size, self._left) if size >= 0 else self._left
        data: bytes = self._file.read(wanted)
        if len(data) < wanted:
            raise tarfile.ReadError("unexpected end of data")
        self._left -= wanted
        return data
