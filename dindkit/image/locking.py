"""`invoke lock`: solve for an image and its ancestors; and solve anew where a locked file is gone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
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
from dindkit.packages.lock import Lock, Origin, Row
from dindkit.packages.locking import Survey
from dindkit.packages.solver import Request
from dindkit.packages.store import GoneError, Store
from dindkit.progress import Progress
from dindkit.project import Project


def _requests(recipe: Recipe, choice: str) -> list[Request]:
    engine = recipe.engines.get(choice)
    requests = [Request(name) for name in recipe.packages]
    if engine:
        requests += [Request(name, engine.archive) for name in engine.packages]
    return requests


def _survey(
    project: Project,
    line: Sequence[Recipe],
    order: Order,
    choice: str,
    keys: Keys,
    since: Iterable[Origin],
    progress: Progress,
) -> Survey:
    engines = [recipe.engines[choice] for recipe in line if choice in recipe.engines]
    return locking.survey(
        keys,
        Store(project.cache),
        order.suite,
        order.target,
        progress,
        archives=[engine.archive for engine in engines if engine.archive],
        since=since,
        allow_expired=order.allow_expired,
    )


def _solve(
    found: Survey,
    line: Sequence[Recipe],
    choice: str,
    old: Sequence[Lock | None],
    allow_downgrade: bool,
) -> list[Lock]:
    """Return a new lock for each recipe of `line`, without the digests that tie them to each other."""
    made: list[Lock] = []
    rows: list[Row] = []
    for index, recipe in enumerate(line):
        with_engine = any(one.engines for one in line[: index + 1])
        lock = locking.make(
            found,
            _requests(recipe, choice),
            image=recipe.name,
            engine=choice if with_engine else "",
            parent_rows=rows,
            old=old[index],
            allow_downgrade=allow_downgrade,
        )
        made.append(lock)
        rows += lock.rows
    return made


def tie(made: Sequence[Lock]) -> list[Lock]:
    """Return the locks of a line of images, each naming the one before."""
    tied: list[Lock] = []
    for lock in made:
        above = locks.identity(tied[-1]) if tied else ""
        tied.append(replace(lock, parent=above))
    return tied


def _committed(path: Path) -> Lock | None:
    return locks.read(path) if path.is_file() else None


def lock(project: Project, order: Order, progress: Progress, *, allow_downgrade: bool = False) -> None:
    """Solve for the ordered image and its ancestors, write their locks, and print what changed.

    Raises RecipeError, TrustError or UnavailableError; all committed locks are as they were then.
    """
    line = recipes.line(project, order.image)
    keys = keyrings.load(project.keys)
    choice = orders.choose(project, line, order, keys, progress)
    paths = [orders.lock_path(project, line, index, order, choice) for index in range(len(line))]
    old = [_committed(path) for path in paths]
    since = [origin for one in old if one for origin in one.archives]
    found = _survey(project, line, order, choice, keys, since, progress)
    made = _solve(found, line, choice, old, allow_downgrade)
    # A lock whose packages have not moved stays, ids and all: a newer InRelease is no reason for a diff.
    kept = [one if one and one.rows == new.rows else new for one, new in zip(old, made, strict=True)]
    for before, after, path in zip(old, tie(kept), paths, strict=True):
        if path.is_file() and path.read_text("utf-8") == locks.render(after):
            progress.note(f"{path.name} of {after.image}: nothing has changed.")
            continue
        locks.write(after, path)
        changes = locks.difference(before, after)
        progress.note(f"{path.name} of {after.image}: {len(after.rows)} packages, {len(changes)} changed.")
        for change in changes if before else ():
            progress.note(f"  {change}")


def heal(
    project: Project, order: Order, chain: Sequence[Ingredients], gone: GoneError, progress: Progress
) -> list[Ingredients]:
    """Return ingredients solved anew, under the same keys, because files of the locks are gone.

    Prints each package that moved. The committed locks stay as they are.
    """
    progress.warn(f"{gone.cause} Solving anew; the image will not be the one that the lock describes.")
    line = [ingredients.recipe for ingredients in chain]
    choice = chain[-1].choice
    old = [ingredients.lock for ingredients in chain]
    since = [origin for one in old for origin in one.archives]
    found = _survey(project, line, order, choice, chain[-1].keys, since, progress)
    healed: list[Ingredients] = []
    for before, after in zip(old, tie(_solve(found, line, choice, old, allow_downgrade=False)), strict=True):
        for change in locks.difference(before, after):
            progress.note(f"  {change}")
        healed.append(orders.compose(healed, line, chain[-1].keys, choice, after, from_lock=False))
    return healed
