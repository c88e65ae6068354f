"""Decompress streams of gzip, bzip2, xz and zstd step by step, so that a few hostile bytes fill no memory."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Iterator
from typing import Protocol

import zstandard

from dindkit.formats.forward import Stream

#: Compressed bytes that are read at a time, and bytes that they are decompressed to at a time.
READ, DECOMPRESSED = 1 << 16, 1 << 18
#: Compressed bytes for a decoder without such a limit. zstd makes 128 kB of four bytes: these become 128 MB.
PIECE = 1 << 12
#: Bytes of memory that a decoder of xz may take.
MEMORY = 1 << 30
#: The largest window of zstd, as an exponent of two: what decoders accept by default.
WINDOW_LOG = 27


class Decoder(Protocol):
    """As lzma's and bz2's: `needs_input` is false while there is more to be had of what it got."""

    @property
    def eof(self) -> bool: ...  # noqa: D102
    @property
    def needs_input(self) -> bool: ...  # noqa: D102
    @property
    def unused_data(self) -> bytes: ...  # noqa: D102
    def decompress(self, data: bytes, max_length: int) -> bytes: ...  # noqa: D102


class _Unlimited(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


class _InPieces:
    """A decoder that cannot be told how much to return, and so gets only so much at a time."""

    def __init__(self, decoder: _Unlimited) -> None:
        self._decoder, self._rest = decoder, b""

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def needs_input(self) -> bool:
        return not self._rest

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data + self._rest

    def decompress(self, data: bytes, _max_length: int) -> bytes:
        data = self._rest + data
        self._rest = data[PIECE:]
        return self._decoder.decompress(data[:PIECE])


def decoder_of(suffix: str) -> Decoder:
    """Return a decoder of one stream of `.gz`, `.bz2`, `.xz` or `.zst`. Raises ValueError for others."""
    match suffix:
        case ".gz":
            return _InPieces(zlib.decompressobj(zlib.MAX_WBITS | 16))
        case ".bz2":
            return bz2.BZ2Decompressor()
        case ".xz":
            return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY)
        case ".zst":
            return _InPieces(zstandard.ZstdDecompressor(max_window_size=1 << WINDOW_LOG).decompressobj())
    raise ValueError(suffix)


def decompressed(source: Stream, decoder: Decoder, begin: bytes = b"") -> Iterator[bytes]:
    """Yield what the stream that `begin` and `source` hold decompresses to.

    What follows it is in the decoder's `unused_data`, and in `source`. Raises EOFError where the stream is
    cut short, and what its decoder raises where it is damaged.
    """
    while not decoder.eof:
        asks = decoder.needs_input
        data = (begin or source.read(READ)) if asks else b""
        begin = b""
        plain = decoder.decompress(data, DECOMPRESSED)
        if plain:
            yield plain
        elif asks and not data and not decoder.eof:
            raise EOFError("it is cut short")
