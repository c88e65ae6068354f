"""What each path of a compressed layer costs: the blocks of a zstd frame, RFC 8878, counted.

A frame is a sequence of blocks of at most 128 kB of content, each with its compressed size before it. So
what a block of the tar costs is exact. Paths that share a block share its cost by their bytes. Content that
the layer had before, which zstd only points to, costs next to nothing the second time.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import IO, Any

from dindkit.formats.bounded_tar import bounded, reading
from dindkit.formats.contents import CHUNK
from dindkit.formats.decompression import WINDOW_LOG
from dindkit.formats.tar_members import clean

_LONGEST_HEADER = 18
_RLE = 1  # a block that is one byte, repeated


def costs(blob: IO[bytes]) -> list[tuple[str, int]]:
    """Return each path of the tar in `blob`, in order, with the compressed bytes that it takes.

    A path's headers and padding are its own. The sum is the number of bytes in `blob`: what frames and the
    tar need around their content is counted for the last path. Raises `layer.bad_bytes()`.
    """
    meter: Any = _Meter(blob)
    starts: list[tuple[str, int]] = []
    with reading(meter) as members:
        starts.extend((clean(member.name), member.offset) for member in bounded(members))
    while meter.read(CHUNK):
        pass
    if not starts:
        return []
    ends = [meter.packed_at(start) for _, start in starts[1:]]
    begins = [0, *ends]
    return [
        (path, end - begin)
        for (path, _), begin, end in zip(starts, begins, [*ends, meter.packed], strict=True)
    ]


class _Meter:
    """Reads what is in a zstd file, and notes after which compressed byte each part of it was there."""

    def __init__(self, blob: IO[bytes]) -> None:
        self._blocks = _blocks(blob)
        self._content, self._at = b"", 0
        #: Bytes of content, and compressed bytes, up to the end of each block.
        self._plain_ends, self._packed_ends = [0], [0]

    @property
    def packed(self) -> int:
        """Compressed bytes read so far."""
        return self._packed_ends[-1]

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes of content."""
        while self._at == len(self._content):
            block = next(self._blocks, None)
            if block is None:
                return b""
            content, packed = block
            self._plain_ends.append(self._plain_ends[-1] + len(content))
            self._packed_ends.append(self._packed_ends[-1] + packed)
            self._content, self._at = content, 0
        found = self._content[self._at : self._at + size]
        self._at += len(found)
        return found

    def packed_at(self, plain: int) -> int:
        """Return how many compressed bytes the first `plain` bytes of content take."""
        index = bisect_left(self._plain_ends, plain)
        if index in (0, len(self._plain_ends)):
            return self._packed_ends[min(index, len(self._packed_ends) - 1)]
        before, after = self._plain_ends[index - 1], self._plain_ends[index]
        packed = self._packed_ends[index] - self._packed_ends[index - 1]
        return self._packed_ends[index - 1] + packed * (plain - before) // (after - before)


def _blocks(blob: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """Yield the content of each block, and the bytes that it takes, headers included."""
    import zstandard

    while start := blob.read(_LONGEST_HEADER):
        header, checked = (
            zstandard.frame_header_size(start),
            zstandard.get_frame_parameters(start).has_checksum,
        )
        decoder = zstandard.ZstdDecompressor(max_window_size=1 << WINDOW_LOG).decompressobj()
        content = decoder.decompress(start[:header])
        spent, ahead, last = header, start[header:], False
        while not last:
            mark, ahead = _take(blob, ahead, 3)
            number = int.from_bytes(mark, "little")
            last = bool(number & 1)
            body, ahead = _take(blob, ahead, 1 if number >> 1 & 3 == _RLE else number >> 3)
            content += decoder.decompress(mark + body)
            if last and checked:
                checksum, ahead = _take(blob, ahead, 4)
                content += decoder.decompress(checksum)
                spent += len(checksum)
            yield content, spent + len(mark) + len(body)
            content, spent = b"", 0
        if ahead:
            raise EOFError("bytes follow the first frame of zstd")


def _take(blob: IO[bytes], ahead: bytes, size: int) -> tuple[bytes, bytes]:
    """Return `size` bytes, first those that were read ahead, and what is left of these."""
    found = ahead[:size]
    if len(found) < size:
        found += blob.read(size - len(found))
    if len(found) < size:
        raise EOFError("a frame of zstd ends too early")
    return found, ahead[size:]
