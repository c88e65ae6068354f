"""Members of a layer with numbers that no file can have, and times that ustar's fields cannot hold."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile

import pytest

from dindkit.formats.bounded_tar import NumberError
from dindkit.formats.contents import ContentStore
from dindkit.formats.tree import Tree, read_tar
from tests.fuzz.tars import Member, encode

ALL_ONES = b"\xff" * 12


def tree_of(contents: ContentStore, *members: Member) -> Tree:
    return Tree(contents, read_tar(io.BytesIO(encode(members)), contents))


@pytest.mark.parametrize(
    ("number", "member"),
    [
        # The last byte of the name, the mode, and the first bytes of the owner.
        ("mode", Member(b"a", pax=((b"size", b"0"),), fields=((99, ALL_ONES),))),
        ("uid", Member(b"a", fields=((108, ALL_ONES[:8]),))),
        ("gid", Member(b"a", fields=((116, ALL_ONES[:8]),))),
        ("uid", Member(b"a", pax=((b"uid", b"4294967295"),))),
        ("gid", Member(b"a", pax=((b"gid", b"-1"),))),
        ("uid", Member(b"a", pax=((b"uid", b"x"),))),
        ("uid", Member(b"a", pax=((b"uid", b"1_0"),))),
        ("gid", Member(b"a", pax=((b"gid", "٣".encode()),))),
        ("size", Member(b"a", pax=((b"size", b"-1"),))),
        ("size", Member(b"a", fields=((124, ALL_ONES),))),
        ("mtime", Member(b"a", pax=((b"mtime", b"nan"),))),
        ("mtime", Member(b"a", pax=((b"mtime", b"1e3"),))),
        ("mtime", Member(b"a", pax=((b"mtime", b"9" * 20),))),
        ("mtime", Member(b"a", fields=((136, b"\x80\x01" + bytes(10)),))),
        ("major number", Member(b"a", b"3", fields=((329, ALL_ONES[:8]),))),
        ("minor number", Member(b"a", b"4", fields=((337, b"7777777\0"),))),
    ],
)
@pytest.mark.parametrize("before", [(), (Member(b"a"),)], ids=["alone", "twice"])
def test_a_number_that_no_file_can_have(
    contents: ContentStore, number: str, member: Member, before: tuple[Member, ...]
) -> None:
    with pytest.raises(NumberError, match=f"the {number} of 'a.*' is"):
        tree_of(contents, *before, member)


@pytest.mark.parametrize("seconds", [-1, -62135596800, 0, (8**11) - 1, 8**11, 1 << 36])
def test_a_time_stays_what_it_is(contents: ContentStore, seconds: int) -> None:
    tree = tree_of(contents, Member(b"a"), Member(b"a", content=b"x", pax=((b"mtime", b"%d" % seconds),)))
    assert tree.entries["a"].mtime == seconds
    out = io.BytesIO()
    tree.write(out)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as members:
        assert {member.name: member.mtime for member in members}["a"] == seconds
    gnu = shutil.which("tar")
    assert gnu is not None
    said = subprocess.run(
        [gnu, "--utc", "--full-time", "-tvf", "-"], input=out.getvalue(), capture_output=True, check=True
    )
    assert said.stderr == b""


@pytest.mark.parametrize("kind", ["mode", "owner"])
def test_numbers_at_their_bounds_are_taken(contents: ContentStore, kind: str) -> None:
    odd = {
        "mode": Member(b"a", mode=0o7777777),
        "owner": Member(b"a", pax=((b"uid", b"4294967294"), (b"gid", b"0"))),
    }
    entry = tree_of(contents, odd[kind]).entries["a"]
    assert (entry.mode, entry.uid) == ((0o7777, 0) if kind == "mode" else (0o644, 4294967294))
