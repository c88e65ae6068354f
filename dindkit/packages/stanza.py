"""Read one stanza of control fields, deb822(5), as both dpkg and apt do; refuse it where they differ."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from dindkit.errors import TrustError

#: Field names, Policy §5.1: printable, without blanks and colons, and not beginning with `#` or `-`.
NAME = re.compile(r"[!\"$-,./0-9;-~][!-9;-~]*")

#: Characters that end a line, a value or the file for only one of dpkg and apt.
ODD = re.compile(r"[\0\r\x1a]")

#: Characters that dpkg (isspace(3)) strips from the ends of a value, and apt may not.
BLANKS = " \t\n\v\f\r"

#: Obsolete names that dpkg still reads as other fields: Version, Priority, Recommends and Suggests.
OBSOLETE = {"class", "optional", "package-revision", "package_revision", "recommended", "revision"}


class StanzaError(TrustError):
    """A stanza is malformed or ambiguous; `problem` says why, in a few words."""

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
    for line in text.strip("\n").split("\n") if text.strip("\n") else ():  # as dpkg does, at no other break
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
