"""The contents of a tree's files, by their SHA-256."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path

from dindkit.errors import DamagedError
from dindkit.files import open_regular
from dindkit.formats.forward import Stream

#: Bytes that are read at a time.
CHUNK = 1 << 20

#: SHA-256 of an empty file.
EMPTY = hashlib.sha256(b"").hexdigest()


class ContentStore:
    """File contents, each kept once, in one unnamed temporary file that vanishes with the process.

    Contents that lie in other files, such as the tar of a layer, can be read from there (`adopt`).
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - lives as long as this object
        #: SHA-256 -> the file (None for our own), offset and size in bytes.
        self._offsets: dict[str, tuple[Path | None, int, int]] = {EMPTY: (None, 0, 0)}
        #: Where adopted contents of more than a chunk begin, by their size; one of each size.
        self._large: dict[int, tuple[Path, int]] = {}
        self._end = 0

    def __contains__(self, digest: str) -> bool:
        """Tell whether there is a content with this SHA-256."""
        return digest in self._offsets

    def adopt(self, path: Path, found: Mapping[str, tuple[int, int]]) -> None:
        """Read contents from the file at `path`, which must stay; `found`: SHA-256 -> offset, bytes.

        Of several files with one content, the last adopted is read.
        """
        for digest, (start, size) in found.items():
            if self._offsets.get(digest, (path, 0, 0))[0]:
                self._offsets[digest] = (path, start, size)
                if size > CHUNK:
                    self._large[size] = (path, start)

    def add(self, stream: Stream, limit: int = sys.maxsize, size: int = -1) -> tuple[str, int]:
        """Keep at most `limit` bytes of what `stream` holds; return their SHA-256 and how many they are.

        With `size`, their number where it is known before, they are compared with an adopted content of as
        many bytes, and written only where they differ. Raises DamagedError where its file changes meanwhile.
        """
        chunks = read_chunks(stream, limit)
        path, start = self._large.get(size, (None, 0))
        if path is None or not path.exists():  # packages are deleted once they have become a layer
            return self._write(chunks)
        digest, equal = hashlib.sha256(), 0
        with open_regular(path) as file:
            file.seek(start)
            for chunk in chunks:
                if file.read(len(chunk)) != chunk:
                    before = _part(path, start, equal, digest.hexdigest())
                    return self._write(chain(before, (chunk,), chunks))
                digest.update(chunk)
                equal += len(chunk)
        name = digest.hexdigest()
        return (name, equal) if name in self else self._write(_part(path, start, equal, name))

    def _write(self, chunks: Iterator[bytes]) -> tuple[str, int]:
        first, second = next(chunks, b""), next(chunks, b"")
        if not second:
            return self.put(first)
        digest, start = hashlib.sha256(), self._end
        self._file.seek(start)
        for chunk in chain((first, second), chunks):
            digest.update(chunk)
            self._file.write(chunk)
            self._end += len(chunk)
        name, size = digest.hexdigest(), self._end - start
        if name in self:
            self._end = start
        else:
            self._offsets[name] = (None, start, size)
        return name, size

    def put(self, content: bytes) -> tuple[str, int]:
        """Keep `content`; return its SHA-256 and its size in bytes."""
        name = hashlib.sha256(content).hexdigest()
        if name not in self:
            self._file.seek(self._end)
            self._file.write(content)
            self._offsets[name] = (None, self._end, len(content))
            self._end += len(content)
        return name, len(content)

    def chunks(self, digest: str) -> Iterator[bytes]:
        """Yield the content with this SHA-256. Raises DamagedError where an adopted file has another."""
        path, start, size = self._offsets[digest]
        if path:
            yield from _part(path, start, size, digest)
            return
        self._file.flush()
        while size:
            chunk = os.pread(self._file.fileno(), min(size, CHUNK), start)
            yield chunk
            start += len(chunk)
            size -= len(chunk)

    def read(self, digest: str) -> bytes:
        """Return the content with this SHA-256."""
        return b"".join(self.chunks(digest))

    def close(self) -> None:
        """Free the disk space."""
        self._file.close()


class HashOnlyStore(ContentStore):
    """Hashes file contents without keeping them."""

    def __init__(self) -> None:
        """Take no folder: nothing is written."""

    def close(self) -> None:
        """Do nothing: there is no file."""

    def add(self, stream: Stream, limit: int = sys.maxsize, size: int = -1) -> tuple[str, int]:
        """Return the SHA-256 and the size in bytes of what `stream` holds, of at most `limit` bytes of it."""
        digest, size = hashlib.sha256(), 0
        for chunk in read_chunks(stream, limit):
            digest.update(chunk)
            size += len(chunk)
        return digest.hexdigest(), size


def read_chunks(stream: Stream, limit: int = sys.maxsize) -> Iterator[bytes]:
    """Yield the next `limit` bytes of `stream`, or all that there are."""
    while chunk := stream.read(min(CHUNK, limit)):
        yield chunk
        limit -= len(chunk)


def _part(path: Path, start: int, size: int, digest: str) -> Iterator[bytes]:
    """Yield `size` bytes of a file, which must have this SHA-256. Raises DamagedError."""
    found = hashlib.sha256()
    with open_regular(path) as file:
        file.seek(start)
        while size and (chunk := file.read(min(size, CHUNK))):
            found.update(chunk)
            yield chunk
            size -= len(chunk)
    if size or found.hexdigest() != digest:
        raise DamagedError(path)
