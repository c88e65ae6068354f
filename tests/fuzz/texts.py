"""Control files, indexes and the like, deb822(5): honest fields, and others."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

VALUES = [
    b"",
    b"hello",
    b"1:2.0-3",
    b"amd64",
    b"all",
    b"yes",
    b"\xff\xfe",
    b"\0",
    b"a\r",
    b"\n continued\n .\n",
    b"0",
    b"-1",
    b"99999999999999999999999999999",
    "é\u202e\u2028".encode(),
    b"x" * 3000,
    b"\x1b]0;title\x07",
    b"hello (= 1) | other:any, more (>> 2~) [amd64] <!x>",
]


@dataclass(frozen=True)
class Change:
    """One change of a list of fields, at a place modulo their number."""

    kind: str
    place: int
    name: bytes
    value: bytes


def changes(names: list[bytes], values: list[bytes]) -> st.SearchStrategy[list[Change]]:
    """Make changes that mention these field names and values, and the usual odd ones."""
    kinds = ["value", "value", "value", "drop", "add", "twice", "raw"]
    return st.lists(
        st.builds(
            Change,
            st.sampled_from(kinds),
            st.integers(0, 40),
            st.sampled_from([*names, b"X-Other", b"", b"a b", b"\xff", b"#"]),
            st.sampled_from([*VALUES, *values]),
        ),
        max_size=3,
    )


def stanza(fields: list[tuple[bytes, bytes]], made: list[Change]) -> bytes:
    """Return the text of `fields` with every change made, one after the other."""
    lines = [(name + b": ", value) for name, value in fields]
    for change in made:
        place = change.place % (len(lines) or 1)
        if change.kind == "value" and lines:
            lines[place] = (lines[place][0], change.value)
        elif change.kind == "drop":
            del lines[place : place + 1]
        elif change.kind == "twice" and lines:
            lines.insert(place, (lines[place][0], change.value))
        elif change.kind == "raw":
            lines.insert(place, (b"", change.value))
        else:
            lines.insert(place, (change.name + b": ", change.value))
    return b"".join(name + value + b"\n" for name, value in lines)
