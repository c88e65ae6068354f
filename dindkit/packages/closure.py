"""Check a lock against the control files of its own packages, without any index."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain

from dindkit.errors import RecipeError
from dindkit.packages.index import Package
from dindkit.packages.lock import ESSENTIAL, REQUESTED, RESTORE, Row


def check_closure(
    rows: Iterable[Row],
    controls: Mapping[str, Mapping[str, str]],
    requested: Collection[str],
    parent_rows: Iterable[Row] = (),
) -> None:
    """Check that `rows` and `parent_rows` together are a closure, and that the reason of each row is true.

    `controls` holds the control fields (deb-control(5)) of every package by name, read from the .deb files,
    the parent's too; `requested` the names that the image's recipe asks for. Raises RecipeError where a row
    was removed that another needs, where one was added that nothing needs or that a parent has already, or
    where two exclude each other.
    """
    rows = list(rows)
    above = {row.name for row in parent_rows}
    names = [*above, *(row.name for row in rows)]
    packages = {name: Package(controls[name]) for name in names}
    twice = (f"{row.name} has a row in a parent's lock, too" for row in rows if row.name in above)
    for complaint in chain(twice, _complaints(rows, packages, requested)):
        raise RecipeError(f"The lock is not a closure: {complaint}.", RESTORE)


def _complaints(
    rows: list[Row], packages: Mapping[str, Package], requested: Collection[str]
) -> Iterator[str]:
    for name in requested:
        if name not in packages:
            yield f"the recipe asks for {name}, which has no row"
    standing: dict[str, list[Package]] = {}
    for package in packages.values():
        for name in {package.name, *(one.name for one in package.provides)}:
            standing.setdefault(name, []).append(package)
    for row in rows:
        yield from _unmet(packages[row.name], standing)
        if not _reason_holds(row, packages, requested):
            yield f"{row.name} is there because of {row.why}, which does not ask for it"
    for package in packages.values():
        yield from _conflicts(package, standing)


def _unmet(package: Package, standing: Mapping[str, list[Package]]) -> Iterator[str]:
    for group in package.needs:
        if not any(other.satisfies(one) for one in group for other in standing.get(one.name, ())):
            yield f"{package.name} needs {' | '.join(map(str, group))}, which no row meets"


def _conflicts(package: Package, standing: Mapping[str, list[Package]]) -> Iterator[str]:
    for one in package.refuses:
        for other in standing.get(one.name, ()):
            if other is not package and other.satisfies(one):
                yield f"{package.name} conflicts with {other.name} ({one})"


def _reason_holds(row: Row, packages: Mapping[str, Package], requested: Collection[str]) -> bool:
    if row.why == ESSENTIAL:
        return packages[row.name].essential
    if row.why == REQUESTED:
        return row.name in requested
    by = packages.get(row.why)
    return by is not None and any(packages[row.name].satisfies(one) for group in by.needs for one in group)
