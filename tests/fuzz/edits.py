"""Faults that any file may have: bytes flipped, cut, put in and repeated; compression twice and broken."""

from __future__ import annotations

import gzip
import lzma
from dataclasses import dataclass

import zstandard
from hypothesis import strategies as st


@dataclass(frozen=True)
class Edit:
    """One change of bytes at a place, which counts modulo the length."""

    kind: str
    place: int
    data: bytes


EDITS = st.lists(
    st.builds(
        Edit,
        st.sampled_from(["flip", "write", "insert", "delete", "cut", "repeat"]),
        st.integers(0, 1 << 15),
        st.one_of(
            st.binary(min_size=1, max_size=6), st.sampled_from([b"\0", b"\xff\xff", b"9", b"-", b"\n"])
        ),
    ),
    max_size=2,
)


def edited(data: bytes, edits: list[Edit]) -> bytes:
    """Return `data` with every edit made, one after the other."""
    for edit in edits:
        place = edit.place % (len(data) + 1)
        head, tail, new = data[:place], data[place:], edit.data
        if edit.kind == "flip":
            data = head + bytes([tail[0] ^ (new[0] or 1)]) + tail[1:] if tail else data
        elif edit.kind == "write":
            data = head + new + tail[len(new) :]
        elif edit.kind == "insert":
            data = head + new + tail
        elif edit.kind == "delete":
            data = head + tail[new[0] + 1 :]
        elif edit.kind == "cut":
            data = head
        else:
            data = head + tail[: new[0] * 8] * 2 + tail[new[0] * 8 :]
    return data


#: How to compress, from the inside out; the words beside formats do what honest packers do not.
PACKINGS = st.one_of(
    st.sampled_from([("gz",), ("xz",), ("zst",), ()]),
    st.lists(
        st.sampled_from(["gz", "xz", "zst", "lzma", "twice", "tail", "cut", "window", "dictionary"]),
        max_size=3,
    ).map(tuple),
)


def packed(data: bytes, packing: tuple[str, ...]) -> bytes:
    """Return `data` after each word of `packing`."""
    for word in packing:
        data = _PACK[word](data)
    return data


def suffix(packing: tuple[str, ...]) -> str:
    """Return the suffix for a file that was packed so, as an honest packer would name it."""
    formats = [word for word in packing if word in ("gz", "xz", "zst", "lzma")]
    outer = formats[-1] if formats else {"window": "zst", "dictionary": "xz"}.get("".join(packing[-1:]), "")
    return f".{outer}" if outer else ""


def _wide(data: bytes) -> bytes:
    """Compress with a window of 2 GB declared in the frame's header (RFC 8878 §3.1.1.1.2)."""
    block = min(len(data), (1 << 17) - 1)
    head = b"\x28\xb5\x2f\xfd" + bytes([0, (31 - 10) << 3])
    return head + ((block << 3) | 1).to_bytes(3, "little") + data[:block]


def _large_dictionary(data: bytes) -> bytes:
    """Compress with xz that asks for a dictionary of 768 MB."""
    plain = lzma.compress(data, lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 20}])
    honest = lzma.compress(data, lzma.FORMAT_XZ, lzma.CHECK_NONE, filters=[{"id": lzma.FILTER_LZMA2}])
    assert plain
    head = bytearray(honest[12:24])
    head[4] = 37  # 3 << 29 is written as 37: xz-file-format §5.3.1
    head[8:12] = _crc32(bytes(head[:8]))
    return honest[:12] + bytes(head) + honest[24:]


def _crc32(data: bytes) -> bytes:
    import zlib

    return zlib.crc32(data).to_bytes(4, "little")


_PACK = {
    "gz": lambda data: gzip.compress(data, 1, mtime=0),
    "xz": lambda data: lzma.compress(data, preset=0),
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE, preset=0),
    "zst": lambda data: zstandard.ZstdCompressor(1).compress(data),
    "twice": lambda data: data * 2,
    "tail": lambda data: data + b"tail",
    "cut": lambda data: data[: len(data) * 3 // 4],
    "window": _wide,
    "dictionary": _large_dictionary,
}
