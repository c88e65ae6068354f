"""What archives offer: the stanzas of their Packages indexes, found by name or by what they provide."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from dindkit.errors import TrustError
from dindkit.packages import relation, version
from dindkit.packages.relation import Group, Relation

#: Policy §2.5, the most important first; anything else counts as `extra`.
PRIORITIES = ("required", "important", "standard", "optional", "extra")


def fields(stanza: str) -> dict[str, str]:
    """Return the fields of a deb822(5) stanza; a continued value keeps its line breaks.

    Lines that are no part of a field are passed over.
    """
    found: dict[str, str] = {}
    name = ""
    for line in stanza.split("\n"):  # and at no other of Unicode's line breaks: dpkg does not know them
        if line.startswith((" ", "\t")):
            if name:
                found[name] += f"\n{line}"
        elif ":" in line:
            name, _, value = line.partition(":")
            found[name] = value.strip()
    return found


@dataclass(frozen=True)
class Package:
    """A package by its control fields (deb-control(5)); `archive` is empty for one that is just there."""

    control: Mapping[str, str]
    archive: str = ""

    def __hash__(self) -> int:
        return hash((self.name, self.version))

    @property
    def name(self) -> str:
        """Its name."""
        return self.control["Package"]

    @property
    def version(self) -> str:
        """Its version."""
        return self.control["Version"]

    @property
    def essential(self) -> bool:
        """Whether every system has it."""
        return self.control.get("Essential") == "yes"

    @property
    def priority(self) -> int:
        """Its place in PRIORITIES."""
        name = self.control.get("Priority", "")
        return PRIORITIES.index(name) if name in PRIORITIES else len(PRIORITIES) - 1

    @cached_property
    def needs(self) -> tuple[Group, ...]:
        """Pre-Depends, then Depends."""
        return self._relations("Pre-Depends") + self._relations("Depends")

    @cached_property
    def refuses(self) -> tuple[Relation, ...]:
        """Conflicts and Breaks: what cannot be installed beside it."""
        groups = self._relations("Conflicts") + self._relations("Breaks")
        return tuple(one for group in groups for one in group)

    @cached_property
    def provides(self) -> tuple[Relation, ...]:
        """Virtual packages that it stands for."""
        return tuple(one for group in self._relations("Provides") for one in group)

    def satisfies(self, wanted: Relation) -> bool:
        """Say whether this package, by its name or by what it provides, is what `wanted` asks for."""
        if wanted.qualifier == "any" and self.control.get("Multi-Arch") != "allowed":
            return False
        if wanted.qualifier not in ("", "any", self.control.get("Architecture")):
            return False
        if wanted.name == self.name and wanted.accepts(self.version):
            return True
        return any(wanted.name == one.name and wanted.accepts(one.version) for one in self.provides)

    def _relations(self, field: str) -> tuple[Group, ...]:
        return relation.parse(self.control.get(field, ""))


class Universe:
    """All packages that some archives offer for one architecture."""

    def __init__(self, architecture: str) -> None:
        self.architecture = architecture
        self._stanzas: dict[str, list[tuple[str, str]]] = {}
        self._providers: dict[str, dict[str, None]] = {}
        self._essential: dict[str, None] = {}
        self._packages: dict[tuple[str, str], Package] = {}

    def add(self, text: str, archive: str) -> int:
        """Take in a Packages index of `archive`; returns how many packages it lists.

        A large index is only skimmed here: most of its stanzas are never asked for.
        """
        count = 0
        for stanza in text.split("\n\n"):
            stanza = stanza.strip("\n")
            if not stanza:
                continue
            name = _skim(stanza, "Package")
            self._stanzas.setdefault(name, []).append((stanza, archive))
            provided = _skim(stanza, "Provides")
            for one in relation.parse(provided) if provided else ():
                self._providers.setdefault(one[0].name, {})[name] = None
            if _skim(stanza, "Essential") == "yes":
                self._essential[name] = None
            count += 1
        return count

    def __len__(self) -> int:
        return len(self._stanzas)

    def versions(self, name: str) -> list[Package]:
        """Return every package of this name, the latest version first; of equal ones, the first added."""
        packages = [self._package(*entry) for entry in self._stanzas.get(name, ())]
        fitting = [one for one in packages if one.control.get("Architecture") in (self.architecture, "all")]
        return sorted(fitting, key=lambda one: version.key(one.version), reverse=True)

    def providers(self, name: str) -> Iterator[str]:
        """Yield the names of packages that some version of provides `name`, in the order of the indexes."""
        yield from self._providers.get(name, ())

    def essential(self, archives: Collection[str]) -> list[Package]:
        """Return the latest version of each essential package of `archives`, in the order of the indexes."""
        latest = (next(self.offered(name, archives), None) for name in self._essential)
        return [one for one in latest if one and one.essential]

    def offered(self, name: str, archives: Collection[str]) -> Iterator[Package]:
        """Yield the packages of this name in `archives`, the latest version first."""
        return (one for one in self.versions(name) if one.archive in archives)

    def _package(self, stanza: str, archive: str) -> Package:
        key = (archive, stanza)
        if key not in self._packages:
            self._packages[key] = Package(fields(stanza), archive)
        return self._packages[key]


def _skim(stanza: str, field: str) -> str:
    """Return the one-line value of a field without parsing the rest."""
    if stanza.startswith(f"{field}: "):
        start = len(field) + 2
    else:
        start = stanza.find(f"\n{field}: ") + len(field) + 3
        if start == len(field) + 2:
            if field == "Package":
                raise TrustError("A Packages index has a stanza without a name.")
            return ""
    end = stanza.find("\n", start)
    return stanza[start : end if end >= 0 else None].strip()
