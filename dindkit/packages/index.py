"""What archives offer: the stanzas of their Packages indexes, found by name or by what they provide."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from dindkit.errors import TrustError
from dindkit.packages import relation, stanza, version
from dindkit.packages.relation import Group, Relation
from dindkit.packages.stanza import StanzaError

#: Policy §2.5, the most important first; anything else counts as `extra`.
PRIORITIES = ("required", "important", "standard", "optional", "extra")


#: Fields that are searched for in the text of an index, without parsing it.
SKIMMED = ("Package", "Provides", "Essential")


@dataclass(frozen=True)
class Package:
    """A package by its control fields (deb-control(5)); `archive` is empty where it does not matter."""

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
        return self.control.get("Essential", "").lower() == "yes"

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
        """The virtual packages that it provides."""
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


class PackageIndex:
    """All packages that some archives offer for one architecture."""

    def __init__(self, architecture: str) -> None:
        self.architecture = architecture
        self._stanzas: dict[str, list[tuple[str, str]]] = {}
        self._providers: dict[str, dict[str, None]] = {}
        self._essential: dict[str, None] = {}
        self._packages: dict[tuple[str, str], Package] = {}

    def add(self, text: str, archive: str) -> int:
        """Add a Packages index of `archive`; returns how many packages it lists.

        Stanzas are parsed only when they are asked for, as most never are. Raises TrustError for an index in
        which dpkg or apt could see other fields.
        """
        _check_names(text, archive)
        count = 0
        for lines in text.split("\n\n"):
            lines = lines.strip("\n")
            if not lines:
                continue
            name = _skim(lines, "Package")
            self._stanzas.setdefault(name, []).append((lines, archive))
            provided = _skim(lines, "Provides")
            for one in relation.parse(provided) if provided else ():
                self._providers.setdefault(one[0].name, {})[name] = None
            if _skim(lines, "Essential").lower() == "yes":
                self._essential[name] = None
            count += 1
        return count

    def __len__(self) -> int:
        return len(self._stanzas)

    def names(self) -> Iterator[str]:
        """Yield the name of every package."""
        yield from self._stanzas

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

    def _package(self, lines: str, archive: str) -> Package:
        key = (archive, lines)
        if key not in self._packages:
            try:
                control = stanza.fields(lines)
            except StanzaError as error:
                raise TrustError(f"The index of {archive} is refused: {error.problem}.") from None
            if "Version" not in control:
                raise TrustError(
                    f"The index of {archive} is refused: it has no version of {control['Package'][:80]!r}."
                )
            self._packages[key] = Package(control, archive)
        return self._packages[key]


def _check_names(text: str, archive: str) -> None:
    """Refuse an index with an invalid field name, or with another spelling of a name in SKIMMED.

    Every line begins a field or continues one, and the names are few, so checking the set of names is enough.
    """
    begun = {line.partition(":")[:2] for line in text.split("\n") if line and line[0] not in " \t"}
    names = {name for name, _ in begun}
    odd = [name for name, colon in begun if not (colon and stanza.NAME.fullmatch(name))]
    lower = {name.lower() for name in SKIMMED}
    odd += [name for name in names - set(SKIMMED) if name.lower() in lower]
    if odd:
        raise TrustError(f"The index of {archive} is refused: it has a field of the name {min(odd)[:80]!r}.")
    if stanza.ODD.search(text):
        raise TrustError(f"The index of {archive} is refused: its lines do not end where all see them end.")


def _skim(lines: str, field: str) -> str:
    """Return the value of a field without parsing the rest."""
    if lines.startswith(f"{field}:"):
        start = len(field) + 1
    else:
        start = lines.find(f"\n{field}:") + len(field) + 2
        if start == len(field) + 1:
            if field == "Package":
                raise TrustError("A Packages index has a stanza without a name.")
            return ""
    end = lines.find("\n", start)
    while end >= 0 and lines.startswith((" ", "\t"), end + 1):
        end = lines.find("\n", end + 1)
    return lines[start : end if end >= 0 else None].strip(stanza.BLANKS)
