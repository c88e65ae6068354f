"""Relations between packages (Depends, Conflicts, Provides …), as Debian Policy §7 defines them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from dindkit.errors import RecipeError
from dindkit.packages import version as versions

_RELATION = re.compile(
    r"(?P<name>[a-z0-9][a-z0-9+.-]*)(?::(?P<qualifier>[a-z0-9-]+))?"
    r"(?:\s*\(\s*(?P<operator><<|<=|=|>=|>>|<|>)\s*(?P<version>[A-Za-z0-9.+:~-]+)\s*\))?"
)

#: Operator -> the results of `version.compare(found, wanted)` that satisfy it. `<` and `>` are old spellings
#: of `<=` and `>=` (Policy §7.1).
_ACCEPTS = {"<<": {-1}, "<=": {-1, 0}, "<": {-1, 0}, "=": {0}, ">=": {0, 1}, ">": {0, 1}, ">>": {1}}


@dataclass(frozen=True)
class Relation:
    """A package name, perhaps with an architecture qualifier, perhaps with bounds on the version."""

    name: str
    qualifier: str = ""
    operator: str = ""
    version: str = ""

    def accepts(self, version: str) -> bool:
        """Say whether `version` is within the bounds; an empty one is only where there are none."""
        if not self.operator:
            return True
        if not version:
            return False
        order = versions.compare(version, self.version)
        return (order > 0) - (order < 0) in _ACCEPTS[self.operator]

    def __str__(self) -> str:
        qualifier = f":{self.qualifier}" if self.qualifier else ""
        return f"{self.name}{qualifier}" + (f" ({self.operator} {self.version})" if self.operator else "")


#: Alternatives: one of them must be met.
Group = tuple[Relation, ...]


@lru_cache(maxsize=1 << 14)
def parse(field: str) -> tuple[Group, ...]:
    """Return the groups of a relation field, each a tuple of alternatives in their order.

    Raises RecipeError where the field is malformed.
    """
    return tuple(
        tuple(_relation(alternative.strip()) for alternative in group.split("|"))
        for group in field.split(",")
        if group.strip()
    )


def _relation(text: str) -> Relation:
    match = _RELATION.fullmatch(text)
    if not match:
        raise RecipeError(f"A package has a relation that Debian Policy does not know: {text!r}.")
    return Relation(**{key: value or "" for key, value in match.groupdict().items()})
