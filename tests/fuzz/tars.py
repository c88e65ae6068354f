"""Tar archives header by header, so that every field of every header may lie (tar(5))."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hypothesis import strategies as st

BLOCK = 512

#: Types with content, and all others that some reader knows.
FILE, FOLDER, LINK, HARD = b"0", b"5", b"2", b"1"
KINDS = [
    b"0",
    b"0",
    b"0",
    b"5",
    b"5",
    b"2",
    b"2",
    b"1",
    b"1",
    b"\0",
    b"7",
    b"3",
    b"4",
    b"6",
    b"S",
    b"L",
    b"K",
    b"x",
    b"g",
]


@dataclass(frozen=True)
class Member:
    """One member as its header says it; `fields` overwrites bytes before the checksum is made."""

    name: bytes
    kind: bytes = FILE
    link: bytes = b""
    content: bytes = b""
    mode: int = 0o644
    ids: tuple[int, int] = (0, 0)
    mtime: int = 1_700_000_000
    pax: tuple[tuple[bytes, bytes], ...] = ()
    long: bool = False
    fields: tuple[tuple[int, bytes], ...] = ()
    damaged: bool = False

    def encoded(self) -> bytes:
        """Return all blocks of the member."""
        blocks = b""
        if self.pax:
            body = b"".join(_record(key, value) for key, value in self.pax)
            blocks += _block(b"pax", b"x", b"", len(body)) + _padded(body)
        if self.long or len(self.name) > 100:
            blocks += _block(b"././@LongLink", b"L", b"", len(self.name) + 1) + _padded(self.name + b"\0")
        if len(self.link) > 100:
            blocks += _block(b"././@LongLink", b"K", b"", len(self.link) + 1) + _padded(self.link + b"\0")
        head = _block(
            self.name, self.kind, self.link, len(self.content), self.mode, self.ids, self.mtime, self.fields
        )
        if self.damaged:
            head = head[:150] + b"7" + head[151:]
        return blocks + head + _padded(self.content)


def encode(members: Iterable[Member], end: str = "two empty blocks") -> bytes:
    """Return a tar of `members`; `end` is one of ENDINGS."""
    return b"".join(member.encoded() for member in members) + ENDINGS[end]


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def _record(key: bytes, value: bytes) -> bytes:
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest)
    while len(b"%d" % length) + len(rest) != length:
        length = len(b"%d" % length) + len(rest)
    return b"%d" % length + rest


def _block(
    name: bytes,
    kind: bytes,
    link: bytes,
    size: int,
    mode: int = 0o644,
    ids: tuple[int, int] = (0, 0),
    mtime: int = 0,
    fields: tuple[tuple[int, bytes], ...] = (),
) -> bytes:
    block = bytearray(
        b"".join(
            (
                name[:100].ljust(100, b"\0"),
                b"%07o\0" % mode,
                b"%07o\0" % ids[0],
                b"%07o\0" % ids[1],
                b"%011o\0" % size,
                b"%011o\0" % mtime,
                b" " * 8,
                kind,
                link[:100].ljust(100, b"\0"),
                b"ustar\00000",
                bytes(64),
                b"%07o\0" % 0,
                b"%07o\0" % 0,
                bytes(167),
            )
        )
    )
    for start, value in fields:
        block[start : start + len(value)] = value
    del block[BLOCK:]
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


#: Names that meet each other often: as folder and as file, as link and as what lies below it.
WORDS = [b"a", b"b", b"usr", b"bin", b"sbin", b"lib", b"etc", b"x.conf"]
ODD_WORDS = [
    b"..",
    b".",
    b"",
    b"\xff\xfe",
    "é".encode(),
    b".wh.a",
    b".wh..wh..opq",
    b".wh.",
    b"n\n",
    b"\x1b[2J",
    b"w" * 120,
]

PLAIN_PATHS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(b"/".join)
PATHS = st.one_of(
    PLAIN_PATHS,
    PLAIN_PATHS,
    PLAIN_PATHS,
    st.lists(st.sampled_from(WORDS + ODD_WORDS), min_size=1, max_size=4).map(b"/".join),
)
NAMES = st.builds(bytes.__add__, st.sampled_from([b"./", b"./", b"./", b"", b"/", b".//"]), PATHS)

#: Where links lead: into the tree, out of it, and to folders that the jail watches.
TARGETS = st.one_of(
    PLAIN_PATHS,
    st.sampled_from(
        [
            b"usr/bin",
            b"usr/sbin",
            b"usr/lib",
            b"/usr/bin",
            b"/usr/sbin",
            b"/etc",
            b"/srv/beside",
            b"../beside",
            b"../../etc",
            b"..",
            b".",
            b"",
            b"/",
            b"a/../../..",
            b"\xff",
        ]
    ),
    NAMES,
)

#: Places of numbers in a header (tar(5)), and what to write there.
FIELDS = st.lists(
    st.tuples(
        st.sampled_from(
            [0, 99, 100, 108, 116, 124, 136, 156, 157, 257, 263, 265, 329, 337, 345, 386, 482, 483, 495]
        ),
        st.sampled_from(
            [
                b"\0",
                b"\xff" * 12,
                b"\x80" + bytes(6) + b"\x01",
                b"\x80" + b"\0" * 3 + b"\x02" + bytes(7),
                b"-0000001",
                b"7" * 11,
                b"9999999\0",
                b"        ",
                b"ustar  \0",
                b"ustar\0",
                bytes(8),
                b"_123",
                "٣".encode(),
                b"00000010000\0",
                b"0000000\0",
                b"etc",
                b"../..",
            ]
        ),
    ),
    max_size=2,
).map(tuple)

PAX = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([b"path", b"linkpath", b"GNU.sparse.name"]), st.one_of(NAMES, TARGETS)),
        st.tuples(
            st.sampled_from(
                [
                    b"size",
                    b"uid",
                    b"gid",
                    b"mtime",
                    b"GNU.sparse.size",
                    b"GNU.sparse.realsize",
                    b"GNU.sparse.major",
                ]
            ),
            st.sampled_from(
                [
                    b"0",
                    b"1",
                    b"5",
                    b"-1",
                    b"1e400",
                    b"nan",
                    b"x",
                    b"2147483648",
                    b"9" * 30,
                    b"1.5",
                    b"70000000",
                ]
            ),
        ),
        st.tuples(
            st.sampled_from(
                [b"GNU.sparse.map", b"GNU.sparse.minor", b"GNU.sparse.numblocks", b"GNU.sparse.offset"]
            ),
            st.sampled_from([b"0", b"1", b"0,1", b"0,0,5,0", b"1,2,3", b"-5,9", b"x"]),
        ),
        st.tuples(
            st.sampled_from(
                [
                    b"SCHILY.xattr.security.capability",
                    b"SCHILY.xattr.user.x",
                    b"LIBARCHIVE.xattr.user.x",
                    b"hdrcharset",
                    b"charset",
                    b"comment",
                    b"",
                    b"\xff",
                ]
            ),
            st.sampled_from([b"", b"BINARY", b"\x01\0\0\x02" + bytes(16), b"\0", b"\xff\n=", b"a"]),
        ),
    ),
    min_size=1,
    max_size=3,
).map(tuple)

CONTENTS = st.one_of(
    st.just(b""),
    st.sampled_from(
        [b"text\n", b"#!/bin/sh\n", bytes(513), b"0" * 512, b"1\n0\n5\n".ljust(512, b"\0") + b"hello"]
    ),
    st.binary(max_size=40),
)


def _member(odd: bool) -> st.SearchStrategy[Member]:
    return st.builds(
        Member,
        name=NAMES if odd else PLAIN_PATHS.map(lambda path: b"./" + path),
        kind=st.sampled_from(KINDS if odd else KINDS[:9]),
        link=TARGETS,
        content=CONTENTS,
        mode=st.sampled_from([0o644, 0o755, 0o4755, 0o1777, 0o0, 0o7777]),
        ids=st.sampled_from([(0, 0), (0, 42), (1000, 1000), (0o7777777, 1)]),
        mtime=st.sampled_from([1_700_000_000, 0, 0o77777777777]),
        pax=PAX if odd else st.just(()),
        long=st.booleans() if odd else st.just(False),
        fields=FIELDS if odd else st.just(()),
        damaged=st.sampled_from([False] * 9 + [True]) if odd else st.just(False),
    ).map(_honest_size)


def _honest_size(member: Member) -> Member:
    """Take the content from what has none, as honest tars do; some lies stay in `fields`."""
    if member.kind in (b"5", b"2", b"1", b"3", b"4", b"6"):
        return Member(**{**vars(member), "content": b""})
    return member


HONEST = _member(odd=False)
ODD = _member(odd=True)
MEMBERS = st.one_of(
    st.lists(HONEST, max_size=6), st.lists(st.one_of(HONEST, HONEST, HONEST, ODD), max_size=6)
).map(tuple)
#: What follows the last member.
ENDINGS = {
    "two empty blocks": bytes(2 * BLOCK),
    "nothing": b"",
    "one empty block": bytes(BLOCK),
    "twenty empty blocks": bytes(20 * BLOCK),
    "text": b"text",
    "an end, and text": bytes(2 * BLOCK) + b"text",
}
ENDS = st.sampled_from(["two empty blocks"] * 5 + list(ENDINGS))
