"""The closure of a request: the set that `apt-get install --no-install-recommends` would choose.

Like apt it considers one version of each package, goes depth first in the order of the dependency fields,
takes the first alternative that works out, and among the packages that provide a virtual one prefers
essential ones, then those of higher priority, then the last in the index. Unlike apt it takes back a choice
that fails later on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from dindkit.errors import RecipeError, did_you_mean
from dindkit.packages.index import Package, PackageIndex
from dindkit.packages.lock import ESSENTIAL, REQUESTED
from dindkit.packages.relation import Group, Relation

#: After so many choices taken back the search is given up; real archives need far fewer.
MOST_BACKTRACKS = 20_000


@dataclass(frozen=True)
class Request:
    """A package to install: its name and, where only one archive will do, that archive."""

    name: str
    archive: str = ""


@dataclass(frozen=True)
class Chosen:
    """A package of the solution. `why` is `essential`, `requested`, or the package that first needed it."""

    package: Package
    why: str


@dataclass(frozen=True)
class _Need:
    """A dependency still to be met."""

    group: Group
    by: Package
    rest: _Need | None


@dataclass
class _State:
    """What is decided so far; copied where the search may have to return to it."""

    present: dict[str, Package] = field(default_factory=dict)
    whys: dict[str, str] = field(default_factory=dict)
    #: Real and virtual name -> names of the present packages that stand for it.
    standing: dict[str, list[str]] = field(default_factory=dict)
    #: Name -> relations of present packages that refuse it, with the name of the refusing package.
    refused: dict[str, list[tuple[Relation, str]]] = field(default_factory=dict)

    def copy(self) -> _State:
        return _State(
            dict(self.present),
            dict(self.whys),
            {name: list(names) for name, names in self.standing.items()},
            {name: list(entries) for name, entries in self.refused.items()},
        )

    def add(self, package: Package, why: str) -> None:
        self.present[package.name] = package
        self.whys[package.name] = why
        for name in _names(package):
            self.standing.setdefault(name, []).append(package.name)
        for one in package.refuses:
            self.refused.setdefault(one.name, []).append((one, package.name))

    def meets(self, group: Group) -> bool:
        return any(self.standing_for(one) for one in group)

    def standing_for(self, wanted: Relation) -> list[Package]:
        candidates = (self.present[name] for name in self.standing.get(wanted.name, ()))
        return [package for package in candidates if package.satisfies(wanted)]

    def conflict(self, package: Package) -> str:
        """Return why `package` cannot be added, or an empty string."""
        for one in package.refuses:
            for other in self.standing_for(one):
                if other.name != package.name:
                    return f"{package.name} conflicts with {other.name} {other.version} ({one})"
        for name in _names(package):
            for one, by in self.refused.get(name, ()):
                if by != package.name and package.satisfies(one):
                    return f"{by} conflicts with {package.name} {package.version} ({one})"
        return ""


def solve(
    package_index: PackageIndex,
    requests: Iterable[Request],
    archives: Mapping[str, bool],
    installed: Iterable[Package] = (),
    essential: bool = False,
) -> list[Chosen]:
    """Return the packages to add to `installed` so that `requests` and all they need are there.

    `archives` maps the name of each archive to whether its packages are taken only on request. `essential`
    adds all essential packages. Raises RecipeError, which names the package and what it lacks, where there is
    no solution.
    """
    return _Search(package_index, archives).run(list(requests), list(installed), essential)


class _Search:
    def __init__(self, package_index: PackageIndex, archives: Mapping[str, bool]) -> None:
        self._package_index = package_index
        self._common = {name for name, on_request in archives.items() if not on_request}
        self._complaint = ""

    def run(self, requests: list[Request], installed: list[Package], essential: bool) -> list[Chosen]:
        state = _State()
        for package in installed:
            state.add(package, "")
        roots = [(one, ESSENTIAL) for one in self._package_index.essential(self._common)] if essential else []
        roots += [
            (self._requested(request), REQUESTED) for request in requests if request.name not in state.present
        ]
        fresh = []
        for package, why in roots:
            if package.name in state.present:
                continue
            complaint = state.conflict(package)
            if complaint:
                raise RecipeError(f"The packages asked for exclude each other: {complaint}.")
            state.add(package, why)
            fresh.append(package)
        need: _Need | None = None
        for package in reversed(fresh):
            need = _push(package, need)
        done = self._descend(state, need)
        there = {package.name for package in installed}
        return [Chosen(done.present[name], why) for name, why in done.whys.items() if name not in there]

    def _requested(self, request: Request) -> Package:
        archives = {request.archive} if request.archive else self._common
        package = next(self._package_index.offered(request.name, archives), None)
        if package is None:
            providers = ", ".join(list(self._package_index.providers(request.name))[:5])
            raise RecipeError(
                f"There is no package {request.name} in {' or '.join(sorted(archives))}.",
                f"It is a virtual package; name one of {providers}."
                if providers
                else did_you_mean(request.name, self._package_index.names()).strip() or "Check its spelling.",
            )
        return package

    def _descend(self, state: _State, need: _Need | None) -> _State:
        """Meet the needs one by one; where one cannot be met, go back to the last open choice."""
        open_choices: list[tuple[list[Package], _State, _Need]] = []
        taken_back = 0
        while need:
            if state.meets(need.group):
                need = need.rest
                continue
            options = self._options(need, state)
            while not options:
                taken_back += 1
                if not open_choices or taken_back > MOST_BACKTRACKS:
                    raise RecipeError(f"The dependencies cannot be met: {self._complaint}.")
                options, state, need = open_choices.pop()
            package, *others = options
            if others:
                open_choices.append((others, state.copy(), need))
            state.add(package, need.by.name)
            need = _push(package, need.rest)
        return state

    def _options(self, need: _Need, state: _State) -> list[Package]:
        """Return the packages that could meet `need` beside those of `state`, the best first."""
        options: dict[str, Package] = {}
        obstacles = []
        for wanted in need.group:
            for package in self._standing_for(wanted, need.by):
                obstacle = state.conflict(package)
                if package.name in state.present:
                    obstacle = f"{package.name} {state.present[package.name].version} is already chosen"
                if obstacle:
                    obstacles.append(obstacle)
                else:
                    options.setdefault(package.name, package)
        if not options and not self._complaint:
            group = " | ".join(map(str, need.group))
            obstacle = f", but {'; '.join(obstacles)}" if obstacles else ", which no archive offers"
            self._complaint = f"{need.by.name} {need.by.version} needs {group}{obstacle}"
        return list(options.values())

    def _standing_for(self, wanted: Relation, by: Package) -> list[Package]:
        # Among equally good packages apt takes the one that it read last.
        names = list(dict.fromkeys([wanted.name, *self._package_index.providers(wanted.name)]))
        candidates = [package for name in reversed(names) if (package := self._candidate(name, by))]
        fitting = [package for package in candidates if package.satisfies(wanted)]
        return sorted(fitting, key=lambda one: (one.name != wanted.name, not one.essential, one.priority))

    def _candidate(self, name: str, by: Package) -> Package | None:
        """Return the one version of a package that is considered where `by` needs it.

        A common archive is preferred to one on request. (A package requested from the latter is chosen before
        all dependencies.) A package that only an archive on request has may be used only by packages from
        that archive.
        """
        common = next(self._package_index.offered(name, self._common), None)
        return common or next(self._package_index.offered(name, {by.archive}), None)


def _push(package: Package, need: _Need | None) -> _Need | None:
    for group in reversed(package.needs):
        need = _Need(group, package, need)
    return need


def _names(package: Package) -> set[str]:
    return {package.name, *(one.name for one in package.provides)}
