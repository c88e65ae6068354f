"""Compress layers with gzip, for registries and engines that do not know zstd."""

from __future__ import annotations

import hashlib
import struct
import zlib
from typing import IO

from dindkit.formats.forward import Stream

#: No flags, no time, no name, and an operating system that is unknown: RFC 1952 §2.3. Python's two writers
#: differ in that last byte, so the header is written here.
_HEADER = bytes.fromhex("1f8b 0800 0000 0000 00ff")
_LEVEL = 6
_PIECE = 1 << 20  # bytes


def to_gzip(source: Stream, target: IO[bytes]) -> tuple[str, int]:
    """Write `source` to `target` as gzip; return the digest and size (bytes) of the result.

    The bytes depend on the input and on zlib's version, and on nothing else.
    """
    digest = hashlib.sha256()
    size = 0

    def write(data: bytes) -> None:
        nonlocal size
        digest.update(data)
        size += target.write(data)

    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    checksum, length = 0, 0
    write(_HEADER)
    while piece := source.read(_PIECE):
        checksum = zlib.crc32(piece, checksum)
        length += len(piece)
        write(compressor.compress(piece))
    write(compressor.flush() + struct.pack("<LL", checksum, length & 0xFFFFFFFF))
    return f"sha256:{digest.hexdigest()}", size
