"""tar-split: what of a tar is not in its files, so that the same bytes can be put together again.

dockerd keeps that of each layer, in gzip, and reads it when an image is saved or pushed. A line is a JSON
object: bytes of the tar, or a file by its name, size and CRC-64.
https://github.com/vbatts/tar-split, tar/storage/entry.go
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import IO, Any

from dindkit.formats.entry import Entry
from dindkit.formats.layer import HashingWriter
from dindkit.formats.tar_writer import END, header, padding

#: The types of lines.
FILE, SEGMENT = 1, 2
#: gzip's level: a layer of 8,000 files has 5 MB of headers, most of it zeros.
LEVEL = 1


def write(entries: Iterable[Entry], content: Callable[[Entry], Iterable[bytes]], out: IO[bytes]) -> str:
    """Write to `out` what the tar of `entries` is made of, as tar_writer.Writer writes it.

    `content` returns that of a file. Return the digest of that tar, `sha256:…`.
    """
    positions, tar = count(), HashingWriter()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=LEVEL, mtime=0, filename="") as packed:
        for line in _lines(entries, content, tar):
            packed.write(json.dumps({**line, "position": next(positions)}).encode() + b"\n")
    return tar.digest


def _lines(
    entries: Iterable[Entry], content: Callable[[Entry], Iterable[bytes]], tar: HashingWriter
) -> Iterator[dict[str, Any]]:
    before = b""
    for entry in entries:
        yield _segment(before + header(entry), tar)
        size = entry.size if entry.kind == "file" else 0
        yield {"type": FILE, **_name(entry), **_content(size, content(entry) if size else (), tar)}
        before = padding(size)
    yield _segment(before + END, tar)


def _segment(data: bytes, tar: HashingWriter) -> dict[str, Any]:
    tar.write(data)
    return {"type": SEGMENT, "payload": base64.b64encode(data).decode()}


def _name(entry: Entry) -> dict[str, str]:
    """Return an entry's name, in base64 where it is no UTF-8."""
    name = entry.path + "/" * (entry.kind == "dir")
    try:
        name.encode()
    except UnicodeEncodeError:
        return {"name_raw": base64.b64encode(name.encode("utf-8", "surrogateescape")).decode()}
    return {"name": name}


def _content(size: int, chunks: Iterable[bytes], tar: HashingWriter) -> dict[str, Any]:
    """Return the size and the CRC-64 (ISO 3309, as Go's hash/crc64 computes it) of a file's content."""
    if not size:
        return {"payload": None}
    from fastcrc.crc64 import go_iso

    crc = 0
    for chunk in chunks:
        tar.write(chunk)
        crc = go_iso(chunk, crc)
    return {"size": size, "payload": base64.b64encode(crc.to_bytes(8, "big")).decode()}
