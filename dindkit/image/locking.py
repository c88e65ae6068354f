"""`invoke lock`: solve for an image and all that stands over the same base; and solve anew for a build."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dindkit.image import order as orders
from dindkit.image import recipe as recipes
from dindkit.image.inputs import Ingredients
from dindkit.image.order import Order
from dindkit.image.recipe import Recipe
from dindkit.packages import keys as keyrings
from dindkit.packages import lock as locks
from dindkit.packages import locking
from dindkit.packages.keys import Keys
from dindkit.packages.lock import Lock
from dindkit.packages.locking import Survey
from dindkit.packages.solver import Request
from dindkit.packages.store import GoneError, Store
from dindkit.progress import Progress
from dindkit.project import Project


@dataclass(frozen=True)
class Line:
    """An image and its ancestors, first ancestor first, with one engine; and where their locks lie."""

    recipes: Sequence[Recipe]
    choice: str
    paths: Sequence[Path]

    @property
    def archives(self) -> set[str]:
        """The archives that are asked only because of the engine."""
        engines = [recipe.engines[self.choice] for recipe in self.recipes if self.choice in recipe.engines]
        return {engine.archive for engine in engines if engine.archive}


def _line(project: Project, order: Order, choice: str) -> Line:
    line = recipes.line(project, order.image)
    return Line(line, choice, [orders.lock_path(project, line, i, order, choice) for i in range(len(line))])


def family(project: Project, order: Order, choice: str) -> list[Line]:
    """Return the ordered line, and the line of every other committed lock over the same first ancestor.

    They belong together: a lock names the one of its parent, so where that moves, all over it have to.
    """
    ordered = _line(project, order, choice)
    found = [ordered]
    for image in recipes.names(project):
        engines = {name for recipe in recipes.line(project, image) for name in recipe.engines}
        for engine in sorted(engines) or [""]:
            line = _line(project, replace(order, image=image), engine)
            known = {path for one in found for path in one.paths}
            if line.paths[0] == ordered.paths[0] and line.paths[-1].is_file() and line.paths[-1] not in known:
                found.append(line)
    return found


def _requests(recipe: Recipe, choice: str) -> list[Request]:
    engine = recipe.engines.get(choice)
    requests = [Request(name) for name in recipe.packages]
    if engine:
        requests += [Request(name, engine.archive) for name in engine.packages]
    return requests


def _survey(
    project: Project, lines: Iterable[Line], order: Order, keys: Keys, old: Iterable[Lock], progress: Progress
) -> Survey:
    return locking.survey(
        keys,
        Store(project.cache),
        order.suite,
        order.target,
        progress,
        archives=sorted(set().union(*(line.archives for line in lines))),
        since=[origin for lock in old for origin in lock.archives],
        allow_expired=order.allow_expired,
    )


def _solve(
    found: Survey,
    line: Line,
    old: Mapping[Path, Lock],
    new: dict[Path, Lock],
    allow_downgrade: bool,
) -> None:
    """Add to `new` the locks of `line` that it lacks, each tied to the one of its parent.

    A lock of `old` whose packages and parent have not moved stays as it is: a newer InRelease makes no diff.
    """
    above: list[Lock] = []
    for recipe, path in zip(line.recipes, line.paths, strict=True):
        if path not in new:
            with_engine = any(one.engines for one in line.recipes[: len(above) + 1])
            lock = locking.make(
                found,
                _requests(recipe, line.choice),
                image=recipe.name,
                engine=line.choice if with_engine else "",
                parent_rows=[row for one in above for row in one.rows],
                old=old.get(path),
                allow_downgrade=allow_downgrade,
            )
            parent = locks.identity(above[-1]) if above else ""
            if path in old and old[path].rows == lock.rows:
                lock = old[path]
            if lock.parent != parent:
                lock = replace(lock, parent=parent, expected=None)  # its ids were those of another whole
            new[path] = lock
        above.append(new[path])


def _committed(lines: Iterable[Line]) -> dict[Path, Lock]:
    return {path: locks.read(path) for line in lines for path in line.paths if path.is_file()}


def lock(project: Project, order: Order, progress: Progress, *, allow_downgrade: bool = False) -> None:
    """Solve for the ordered image's family, write all its locks, and print what changed.

    A lock that needs an archive which cannot be reached, and was not ordered, is left as it is, and named.
    Raises RecipeError, TrustError or UnavailableError; all committed locks are as they were then.
    """
    keys = keyrings.load(project.keys)
    choice = orders.choose(project, recipes.line(project, order.image), order, keys, progress)
    ordered, *others = family(project, order, choice)
    lines = [ordered, *(line for line in others if _can_be_asked(project, order, keys, line, ordered))]
    old = _committed(lines)
    found = _survey(project, lines, order, keys, old.values(), progress)
    new: dict[Path, Lock] = {}
    for line in lines:
        _solve(found, line, old, new, allow_downgrade)
    _write(old, new, progress)
    for line in others:
        path, above = line.paths[-1], new.get(line.paths[-2])
        if line not in lines and above and locks.read(path).parent != locks.identity(above):
            progress.warn(
                f"{path.name} of {line.recipes[-1].name} stands over the earlier lock of {above.image}: its"
                f" archive cannot be reached. Later, run: invoke lock --engine {line.choice}"
            )


def _can_be_asked(project: Project, order: Order, keys: Keys, line: Line, ordered: Line) -> bool:
    """Whether each archive of `line` is one that the order needs anyway, or answers."""
    others = line.archives - ordered.archives
    return all(orders.reachable(project, keys, archive, order.suite) for archive in others)


def _write(old: Mapping[Path, Lock], new: Mapping[Path, Lock], progress: Progress) -> None:
    changed = {
        path: after
        for path, after in new.items()
        if not path.is_file() or path.read_text("utf-8") != locks.render(after)
    }
    locks.write_all(changed)
    for path, after in new.items():
        if path not in changed:
            progress.note(f"{path.name} of {after.image}: nothing has changed.")
            continue
        changes = locks.difference(old.get(path), after)
        progress.note(f"{path.name} of {after.image}: {len(after.rows)} packages, {len(changes)} changed.")
        for change in changes if path in old else ():
            progress.note(f"  {change}")


def add(project: Project, order: Order, progress: Progress) -> None:
    """Write the lock of the ordered image and engine over the committed locks of its ancestors.

    No committed lock changes. Raises RecipeError, which is also for an archive that has moved on from the
    ancestors' packages, TrustError or UnavailableError; nothing is written then.
    """
    keys = keyrings.load(project.keys)
    line = _line(project, order, order.engine)
    old = _committed([line])
    found = _survey(project, [line], order, keys, old.values(), progress)
    new = dict(old)
    _solve(found, line, old, new, allow_downgrade=False)
    _write(old, {path: lock for path, lock in new.items() if path not in old}, progress)


def heal(
    project: Project, order: Order, chain: Sequence[Ingredients], gone: GoneError, progress: Progress
) -> list[Ingredients]:
    """Return ingredients solved anew, under the same keys, because files of the locks are gone.

    Prints each package that moved. The committed locks stay as they are.
    """
    progress.warn(f"{gone.cause} Solving anew; the image will not be the one that the lock describes.")
    keys, choice = chain[-1].keys, chain[-1].choice
    line = _line(project, order, choice)
    old = {path: one.lock for path, one in zip(line.paths, chain, strict=True)}
    new: dict[Path, Lock] = {}
    _solve(_survey(project, [line], order, keys, old.values(), progress), line, old, new, False)
    healed: list[Ingredients] = []
    for path, after in new.items():
        for change in locks.difference(old[path], after):
            progress.note(f"  {change}")
        healed.append(orders.compose(healed, line.recipes, keys, choice, after, from_lock=False))
    return healed
