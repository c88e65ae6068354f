"""Print text with every character escaped that a terminal would obey, hide or reorder.

File names, package fields and servers' messages are not trusted. Everything that is printed goes through
`visible`: results by `result` and `json_result` here, the rest by dindkit.progress.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

#: Ranges of invisible characters: controls (Unicode's Cc, but for the tab), formats such as overrides of
#: direction (Cf), surrogates (Cs), separators of lines (Zl, Zp), and letters that leave a blank.
_UNSEEN = (
    "\\x00-\\x08\\x0a-\\x1f\\x7f-\\x9f\\xad\\u034f\\u0600-\\u0605\\u061c\\u06dd\\u070f\\u0890\\u0891\\u08e2\\u115f\\u1160"
    "\\u17b4\\u17b5\\u180b-\\u180f\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\u3164\\ud800-\\udfff\\ufeff\\uffa0"
    "\\ufff0-\\ufffb\\U000110bd\\U000110cd\\U00013430-\\U0001343f\\U0001bca0-\\U0001bca3\\U0001d173-\\U0001d17a"
    "\\U000e0000-\\U000e0fff"
)
_HIDDEN = re.compile(f"[{_UNSEEN}]")
_COMMAND = re.compile(r"\binvoke (?=(?:--)?[a-z])")
_VERB = re.compile(r"\binvoke ([a-z]+)(?!\w|\.\w)")
#: The options and their values, by verb, that say which image the running verb is about: see `choosing`.
_chosen: Mapping[str, Mapping[str, str]] = {}
_SURROGATE = re.compile("[\\ud800-\\udfff]")
#: Characters of a sentence. One that names a hundred packages is to be read whole.
_LONGEST = 8000
_SHORT = {"\n": "\\n", "\r": "\\r"}


def visible(text: str) -> str:
    r"""Return `text` as one line, with every invisible character escaped: `\x1b`, `\u202e`.

    Bytes that are not UTF-8, which Python keeps as surrogates, are escaped as bytes.
    """
    return _HIDDEN.sub(_written_out, text)


def shortened(text: str) -> str:
    """Return a sentence without its middle where it is too long to be read: others' words may have no end."""
    if len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST * 3 // 4]} … {text[-_LONGEST // 4 :]}"


def encodable(text: str) -> str:
    """Return `text` with bytes that are not UTF-8 escaped, so that it can be written to a UTF-8 file."""
    return _SURROGATE.sub(_written_out, text)


def as_called(text: str) -> str:
    """Return a sentence of ours with its commands as the user types them.

    Sentences say `invoke build`, as in a checkout. Where the console script `dindkit` was called, that is
    `dindkit build`; and in `choosing` the command has the options that were chosen, unless it has its own.
    """
    text = _VERB.sub(_with_chosen, text)
    return _COMMAND.sub("dindkit ", text) if Path(sys.argv[0]).name == "dindkit" else text


@contextmanager
def choosing(options: Mapping[str, Mapping[str, str]]) -> Iterator[None]:
    """In the block, let commands in sentences be about the same image as the one that runs.

    `options` has for each verb the words of its command line by option: `{"lock": {"--suite": "--suite
    forky", "--image": "./my-runner"}}`. Who is told to lock or build again means that image, and not the
    default.
    """
    global _chosen
    before, _chosen = _chosen, options
    try:
        yield
    finally:
        _chosen = before


def _with_chosen(found: re.Match[str]) -> str:
    rest = found.string[found.end() :].partition("invoke ")[0]
    if rest.startswith(" --help"):
        return found[0]
    names_recipe = re.match(r" (?:[./]|'|\"|.*--(?:image|recipe)\b)", rest)
    added = [
        words
        for option, words in _chosen.get(found[1], {}).items()
        if not (names_recipe if option in ("--image", "--recipe") else re.search(rf"{option}\b", rest))
    ]
    return " ".join([found[0], *added])


def result(text: str, out: TextIO | None = None) -> None:
    """Print a command's result on `out`, by default standard output: the lines of `text` made visible."""
    lines = text.split("\n")
    (out or sys.stdout).write("".join(f"{visible(line)}\n" for line in lines))


def json_result(text: str, out: TextIO | None = None) -> None:
    """Print JSON on `out`, by default standard output: the same values, with invisible characters escaped.

    JSON cannot hold bytes that are not UTF-8: these are escaped as text.
    """
    lines = text.split("\n")
    (out or sys.stdout).write("\n".join(_HIDDEN.sub(_json_escape, line) for line in lines))


def _written_out(found: re.Match[str]) -> str:
    character = found[0]
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:
        number -= 0xDC00
    if character in _SHORT:
        return _SHORT[character]
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def _json_escape(found: re.Match[str]) -> str:
    if _SURROGATE.match(found[0]):
        return f"\\{_written_out(found)}"  # the backslash is a character of the string
    units = found[0].encode("utf-16-be")
    return "".join(f"\\u{int.from_bytes(units[at : at + 2]):04x}" for at in range(0, len(units), 2))
