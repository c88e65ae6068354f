"""One stanza of control fields, deb822(5): read as dpkg and apt read it, or refused."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from dindkit.errors import TrustError

#: Policy §5.1: printable, no blank, no colon, and neither a comment's `#` nor a signature's `-` in front.
NAME = re.compile(r"[!\"$-,./0-9;-~][!-9;-~]*")

#: What dpkg or apt takes for the end of a line, of a value or of the file, and the other does not.
ODD = re.compile(r"[\0\r\x1a]")

#: Blanks for dpkg's isspace(3) where the line has none for apt, which leave a value's ends in doubt.
BLANKS = " \t\n\v\f\r"

#: Names that dpkg still reads as parts of others: of Version, Priority, Recommends and Suggests.
OBSOLETE = {"class", "optional", "package-revision", "package_revision", "recommended", "revision"}


class StanzaError(TrustError):
    """A stanza can be read in two ways, or in none; `problem` says why, in a few words."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"A stanza of control fields is refused: {problem}.")
        self.problem = problem


class Stanza(Mapping[str, str]):
    """Fields by name, in any case, as dpkg and apt find them; names are listed as they are written."""

    def __init__(self, found: Mapping[str, str]) -> None:
        self._values = dict(found)
        self._names = {name.lower(): name for name in found}

    def __getitem__(self, name: str) -> str:
        if name.lower() not in self._names:
            raise KeyError(name)
        return self._values[self._names[name.lower()]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def fields(text: str) -> Stanza:
    """Return the fields of one stanza; a continued value keeps its line breaks. Raises StanzaError."""
    if ODD.search(text):
        raise StanzaError("it holds a null, a carriage return or an end-of-file character")
    found: dict[str, list[str]] = {}
    seen: set[str] = set()
    name = ""
    for line in text.strip("\n").split("\n") if text.strip("\n") else ():  # as dpkg: at no other line break
        if line.strip(" \t") != line.strip(BLANKS):
            raise StanzaError(f"blanks that are none for everybody are around {line.strip(BLANKS)[:80]!r}")
        if line.startswith((" ", "\t")) and name:
            found[name].append(line)
            continue
        name, colon, value = line.partition(":")
        if not colon or not NAME.fullmatch(name):
            raise StanzaError(f"the line {line[:80]!r} is no field")
        if value.strip(" \t") != value.strip(BLANKS):
            raise StanzaError(f"blanks that are none for everybody are around the value of {name}")
        if name.lower() in OBSOLETE:
            raise StanzaError(f"it has the obsolete field {name}")
        if name.lower() in seen:
            raise StanzaError(f"it has the field {name} twice")
        seen.add(name.lower())
        found[name] = [value.strip(" \t")]
    return Stanza({name: "\n".join(lines) for name, lines in found.items()})
