"""Streams are decompressed step by step: all that they hold, and no more at a time than there should be."""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import lzma
import random
from collections.abc import Callable

import pytest
import zstandard

from dindkit.formats.decompression import (
    DECOMPRESSED,
    PIECE,
    READ,
    DamagedStreamError,
    decoder_of,
    decompressed,
    streams,
    suffix_of,
)

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: zstandard.ZstdCompressor().compress(data),
}
#: The most that a decoder makes of one piece: gzip a thousandfold, zstd 128 kB of four bytes.
MOST = {".gz": PIECE * 1032, ".bz2": DECOMPRESSED, ".xz": DECOMPRESSED, ".zst": PIECE << 15}

every = pytest.mark.parametrize("suffix", COMPRESS)


@every
@pytest.mark.parametrize("size", [0, 1, PIECE, DECOMPRESSED, DECOMPRESSED + 1, 700_000])
def test_the_whole_content(suffix: str, size: int) -> None:
    content = random.Random(size).randbytes(size // 2).ljust(size, b"\0")
    source = io.BytesIO(COMPRESS[suffix](content))
    assert b"".join(decompressed(source, decoder_of(suffix))) == content
    assert source.read() == b""


@every
def test_content_that_comes_out_a_block_at_a_time(suffix: str) -> None:
    """Of a block of 128 kB zstd returns nothing before its last byte is there, some pieces later."""
    content = base64.b64encode(random.Random(2).randbytes(400_000))
    assert b"".join(decompressed(io.BytesIO(COMPRESS[suffix](content)), decoder_of(suffix))) == content


@every
def test_a_few_bytes_fill_no_memory(suffix: str) -> None:
    content = bytes(2 * MOST[suffix])
    packed = COMPRESS[suffix](content)
    sizes = [len(chunk) for chunk in decompressed(io.BytesIO(packed), decoder_of(suffix))]
    assert sum(sizes) == len(content)
    assert max(sizes) <= MOST[suffix]


@every
@pytest.mark.parametrize("left", [0, 1, 10, 0.5, -1])
def test_a_stream_that_is_cut_short(suffix: str, left: float) -> None:
    packed = COMPRESS[suffix](random.Random(0).randbytes(200_000))
    end = int(left * len(packed)) if isinstance(left, float) else left
    with pytest.raises(EOFError):
        list(decompressed(io.BytesIO(packed[:end]), decoder_of(suffix)))


@every
@pytest.mark.parametrize("size", [10, PIECE, PIECE * 20])
def test_what_follows_is_not_lost(suffix: str, size: int) -> None:
    """Nor where it was read together with the end of the stream."""
    packed, after = COMPRESS[suffix](b"content"), random.Random(1).randbytes(size)
    source, decoder = io.BytesIO(packed[5:] + after), decoder_of(suffix)
    assert b"".join(decompressed(source, decoder, packed[:5])) == b"content"
    assert decoder.unused_data + source.read() == after


@every
def test_what_is_damaged(suffix: str) -> None:
    packed = bytearray(COMPRESS[suffix](bytes(1000)))
    packed[1] ^= 0xFF
    with pytest.raises(DamagedStreamError):
        list(decompressed(io.BytesIO(packed), decoder_of(suffix)))


@every
@pytest.mark.parametrize("zeros", [0, 1, 3 * READ])
def test_streams_one_after_the_other(suffix: str, zeros: int) -> None:
    packed = COMPRESS[suffix](b"one") + bytes(zeros) + COMPRESS[suffix](b"two") + bytes(zeros)
    assert suffix_of(packed[:8]) == suffix
    assert b"".join(streams(io.BytesIO(packed), suffix, padded=True)) == b"onetwo"
    if zeros:
        with pytest.raises((DamagedStreamError, EOFError)):
            list(streams(io.BytesIO(packed), suffix, padded=False))


def test_an_unknown_suffix() -> None:
    with pytest.raises(ValueError, match=r"\.lz4"):
        decoder_of(".lz4")
