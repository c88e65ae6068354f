"""What the user orders, and which recipes, engine and locks that comes to."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dindkit.errors import RecipeError
from dindkit.image import recipe as recipes
from dindkit.image.inputs import Ingredients
from dindkit.image.recipe import Recipe
from dindkit.memory import Memory
from dindkit.packages import keys as keyrings
from dindkit.packages import lock as locks
from dindkit.packages.keys import Keys
from dindkit.packages.lock import Lock
from dindkit.progress import Progress
from dindkit.project import Project

#: Python's name of a machine -> Debian's.
ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}

#: What `auto` prefers, first to last.
PREFERENCE = ("docker-ce", "docker.io")


@dataclass(frozen=True)
class Order:
    """The words of a command line."""

    image: str = "dind"
    engine: str = "auto"
    suite: str = "trixie"
    #: Debian's name; empty for this machine's.
    architecture: str = ""
    frozen: bool = False
    allow_expired: bool = False

    @property
    def target(self) -> str:
        """The architecture to build for."""
        machine = platform.machine().lower()
        return self.architecture or ARCHITECTURES.get(machine, machine)


def lock_path(project: Project, line: Sequence[Recipe], index: int, order: Order, choice: str) -> Path:
    """Return where the lock of `line[index]` lies; one without an engine below it serves all engines."""
    with_engine = any(recipe.engines for recipe in line[: index + 1])
    engine = f"-{choice}" if with_engine else ""
    return project.images / line[index].name / f"{order.suite}-{order.target}{engine}.lock"


def resolve(project: Project, order: Order, progress: Progress) -> list[Ingredients]:
    """Return the ingredients of the ordered image and its ancestors, first ancestor first.

    They come from the committed locks. Raises RecipeError where one is missing, or belongs to another parent.
    """
    line = recipes.line(project, order.image)
    keys = keyrings.load(project.keys)
    choice = _locked(project, line, order, choose(project, line, order, keys, progress), progress)
    chain: list[Ingredients] = []
    above = ""
    for index, recipe in enumerate(line):
        path = lock_path(project, line, index, order, choice)
        lock = locks.read(path)
        _belongs(lock, path, recipe, order, above)
        above = locks.identity(lock)
        chain.append(compose(chain, line, keys, choice, lock, from_lock=True))
    return chain


def _locked(project: Project, line: Sequence[Recipe], order: Order, choice: str, progress: Progress) -> str:
    """Return the engine to take now that `choice` is the one to prefer.

    Where `auto` chose one that has no lock, because its archive can be reached, the lock is made over those
    of the ancestors, which stay as they are. If that cannot be, an engine that has a lock is the next best.
    """
    path = lock_path(project, line, len(line) - 1, order, choice)
    if order.engine != "auto" or order.frozen or not choice or path.is_file():
        return choice
    locked = _engines(project, line, order)[1]
    failed = Memory(project.state / f"unlocked-{_above(project, line, order, choice)[:16]}-{choice}")
    why = failed.recall()
    if why is None or not locked:
        from dindkit.image import locking  # solving is rare, and heavy

        progress.note(f"engine: {choice}, whose archive can be reached: making a lock for it, {path.name}.")
        try:
            locking.add(project, replace(order, engine=choice), progress)
        except RecipeError as error:
            if not locked:
                raise
            why = error.cause
            failed.keep(why)
        else:
            return choice
    progress.once(
        f"engine: {locked[0]} instead of {choice}: {why} For a new lock of all: invoke lock --engine {choice}"
    )
    return locked[0]


def _above(project: Project, line: Sequence[Recipe], order: Order, choice: str) -> str:
    """Return the identity of the lock that a lock of the last of `line` stands over, where there is one."""
    path = lock_path(project, line, len(line) - 2, order, choice) if len(line) > 1 else None
    return locks.identity(locks.read(path)) if path and path.is_file() else "nothing"


def compose(
    chain: Sequence[Ingredients],
    line: Sequence[Recipe],
    keys: Keys,
    choice: str,
    lock: Lock,
    *,
    from_lock: bool,
) -> Ingredients:
    """Return the ingredients that follow `chain` in `line`, with `lock`."""
    index = len(chain)
    with_engine = any(recipe.engines for recipe in line[: index + 1])
    return Ingredients(
        recipe=line[index],
        choice=choice if with_engine else "",
        lock=lock,
        keys=keys,
        parent=chain[-1] if chain else None,
        from_lock=from_lock,
    )


def _belongs(lock: Lock, path: Path, recipe: Recipe, order: Order, above: str) -> None:
    """Check that the lock at `path` is this image's, for this order, over this parent."""
    if (lock.image, lock.suite, lock.architecture) != (recipe.name, order.suite, order.target):
        raise RecipeError(
            f"{path.name} is the lock of {lock.image} for {lock.suite} on {lock.architecture}.",
            "Restore it with git, or run: invoke lock",
        )
    if lock.parent != above:
        raise RecipeError(
            f"The lock of {recipe.name} was made over another lock of {recipe.parent or 'no parent'}.",
            "Restore both with git, or run: invoke lock",
        )


def choose(project: Project, line: Sequence[Recipe], order: Order, keys: Keys, progress: Progress) -> str:
    """Return the name of the engine to take, or the empty string where no recipe of `line` has a choice.

    `auto` takes docker-ce where its lock is committed or its archive can be reached, else docker.io, and says
    so. A frozen order goes by what maintainers have sealed: a lock that `auto` has made on this machine
    counts only where no other does. Raises RecipeError for an engine that the recipe does not have.
    """
    first = next((recipe for recipe in line if recipe.engines), None)
    if first is None:
        return ""
    if order.engine != "auto":
        first.engine(order.engine)
        return order.engine
    known, locked = _engines(project, line, order)
    if order.frozen:
        locked = [name for name in locked if _sealed(project, line, order, name)] or locked
    preferred = known[0]
    if preferred in locked:
        return preferred
    if not order.frozen and reachable(project, keys, first.engines[preferred].archive, order.suite):
        return preferred
    other = (locked or known)[0]
    why = "no lock is committed for it"
    why += " with its ids" if order.frozen else ", and its archive cannot be reached to make one"
    progress.once(f"engine: {other} instead of {preferred}: {why}.")
    return other


def _engines(project: Project, line: Sequence[Recipe], order: Order) -> tuple[list[str], list[str]]:
    """Return the engines that the images of `line` can have, preferred first, and those that have a lock."""
    engines = {name for recipe in line for name in recipe.engines}
    known = [name for name in PREFERENCE if name in engines] or sorted(engines)
    return known, [name for name in known if lock_path(project, line, len(line) - 1, order, name).is_file()]


def _sealed(project: Project, line: Sequence[Recipe], order: Order, engine: str) -> bool:
    return locks.read(lock_path(project, line, len(line) - 1, order, engine)).expected is not None


def reachable(project: Project, keys: Keys, archive: str, suite: str) -> bool:
    """Tell whether the archive called `archive` answers; "no" is remembered for an hour."""
    memory = Memory(project.state / f"unreachable-{archive}")
    if memory.recall() is not None:
        return False
    from dindkit.packages import release  # asking is rare, and its libraries are heavy

    place = keys.archive(archive)
    theirs = place.suites.get(suite, ())
    if theirs and not release.reachable(place, theirs[0]):
        memory.keep(f"The archive {archive} did not answer.")
        return False
    return bool(theirs)
