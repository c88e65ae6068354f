"""Licences from a package's copyright file, in the machine-readable format of Debian Policy, DEP-5.

https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
"""

from __future__ import annotations

import re

#: The first paragraph begins with this field; older drafts called it Format-Specification.
_HEADER = re.compile(r"\s*Format(-Specification)?[ \t]*:", re.IGNORECASE)
_FIELD = re.compile(r"(?P<name>[A-Za-z-]+)[ \t]*:[ \t]*(?P<value>.*)")
#: Letters of a short name, and how many of them a file may name: more is a text in the wrong place.
_LONGEST, _MOST = 200, 200


def licences(text: str) -> tuple[str, ...]:
    """Return the short names in a copyright file, sorted; none where it is not machine-readable.

    A name may be an expression: `GPL-2+ or Artistic`. The file speaks of the source package, so also of
    files that the binary package does not have.
    """
    text = text.removeprefix("\ufeff")
    if not _HEADER.match(text):
        return ()
    found: set[str] = set()
    for index, paragraph in enumerate(re.split(r"\n[ \t]*\n", text.replace("\r\n", "\n").strip("\n"))):
        fields = {
            match["name"].lower(): match["value"].strip()
            for line in paragraph.split("\n")
            if (match := _FIELD.fullmatch(line))
        }
        name = fields.get("license", "")
        if name and len(name) <= _LONGEST and (index == 0 or "files" in fields):
            found.add(name.rstrip(",."))
    return tuple(sorted(found, key=lambda name: (name.lower(), name))[:_MOST])
