"""Decompress streams of gzip, bzip2, xz and zstd step by step, so that a few hostile bytes fill no memory."""

from __future__ import annotations

import bz2
import lzma
import re
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


#: What files begin with that are compressed. zstd's second kind of frame holds something for others.
BEGINS = {
    ".gz": re.compile(rb"\x1f\x8b"),
    ".bz2": re.compile(rb"BZh"),
    ".xz": re.compile(rb"\xfd7zXZ\0"),
    ".zst": re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"),
}


class DamagedStreamError(ValueError):
    """A compressed stream is damaged."""


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


def suffix_of(begin: bytes) -> str:
    """Return the suffix, say `.xz`, of a file that begins with these bytes; empty if it is not compressed."""
    return next((suffix for suffix, form in BEGINS.items() if form.match(begin)), "")


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
    cut short, and DamagedStreamError where it is damaged.
    """
    while not decoder.eof:
        asks = decoder.needs_input
        data = (begin or source.read(READ)) if asks else b""
        begin = b""
        try:
            plain = decoder.decompress(data, DECOMPRESSED)
        except (OSError, lzma.LZMAError, zlib.error, zstandard.ZstdError) as error:  # the first is bz2's
            raise DamagedStreamError(str(error)) from error
        if plain:
            yield plain
        elif asks and not data and not decoder.eof:
            raise EOFError("it is cut short")


def streams(source: Stream, suffix: str, *, padded: bool) -> Iterator[bytes]:
    """Yield what all streams of a file decompress to, one after the other. Raises as `decompressed` does.

    Zeros after each of them are passed over with `padded`.
    """
    rest = source.read(READ)
    while rest:
        decoder = decoder_of(suffix)
        yield from decompressed(source, decoder, rest)
        rest = decoder.unused_data
        while not (rest := rest.lstrip(b"\0") if padded else rest):
            rest = source.read(READ)
            if not rest:
                return
