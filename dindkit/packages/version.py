"""Comparison of package versions, as deb-version(7) defines it."""

from __future__ import annotations

import re
from functools import cmp_to_key, lru_cache
from itertools import zip_longest

#: A number of any length: how many digits it has without leading zeros, and these. Python's int() takes 4300
#: digits at most.
_Number = tuple[int, str]

#: Compared where one version has no more parts: no characters, then the number 0.
_END: tuple[list[int], _Number] = ([0], (0, ""))

#: An epoch: ASCII digits only, unlike Python's isdigit().
_EPOCH = re.compile(r"[0-9]+")

#: Everything but digits, then digits.
_PARTS = re.compile(r"([^0-9]*)([0-9]*)")


def compare(left: str, right: str) -> int:
    """Return a number below, at or above 0 as `left` is earlier than, equal to or later than `right`."""
    mine, other = _split(left), _split(right)
    if mine[0] != other[0]:
        return -1 if mine[0] < other[0] else 1
    return _compare_part(mine[1], other[1]) or _compare_part(mine[2], other[2])


#: For `sorted` and `max`.
key = cmp_to_key(compare)


@lru_cache(maxsize=4096)
def _split(version: str) -> tuple[_Number, str, str]:
    epoch, colon, rest = version.partition(":")
    if not colon or not _EPOCH.fullmatch(epoch):
        epoch, rest = "0", version
    upstream, hyphen, revision = rest.rpartition("-")
    return (_number(epoch), upstream, revision) if hyphen else (_number(epoch), rest, "")


def _compare_part(left: str, right: str) -> int:
    for ours, theirs in zip_longest(_ordered(left), _ordered(right), fillvalue=_END):
        if ours != theirs:
            return 1 if ours > theirs else -1
    return 0


def _ordered(part: str) -> list[tuple[list[int], _Number]]:
    return [
        ([_rank(character) for character in text] + [0], _number(digits))
        for text, digits in _PARTS.findall(part)
    ]


def _number(digits: str) -> _Number:
    plain = digits.lstrip("0")
    return len(plain), plain


def _rank(character: str) -> int:
    """Order characters: a tilde before the end of the part (0), letters before everything else."""
    if character == "~":
        return -1
    return ord(character) if character.isalpha() else ord(character) + 256
