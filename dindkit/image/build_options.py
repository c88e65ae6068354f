"""The options of a build, and the recipes, the engine and the locks that they name."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dindkit import defaults
from dindkit.errors import RecipeError, did_you_mean
from dindkit.image import recipe as recipe_files
from dindkit.image.build_inputs import BuildInputs
from dindkit.image.recipe import Recipe
from dindkit.packages import keys as keyrings
from dindkit.packages import lock as locks
from dindkit.packages.keys import Keys
from dindkit.packages.lock import Lock
from dindkit.project import Project
from dindkit.sandbox.emulation import BY_MACHINE

#: The architectures that Debian has been released for.
DEBIAN = ("amd64", "arm64", "armel", "armhf", "i386", "mips64el", "ppc64el", "riscv64", "s390x")

#: The engines whose committed locks `auto` prefers, first to last.
PREFERENCE = ("docker-ce", "docker.io")
#: What `auto` means where no lock is committed: this engine's packages are in Debian's own archive.
WITHOUT_LOCK = "docker.io"
#: The folder in a recipe's folder with the locks of its ancestors in `images/`.
PARENTS = "parents"


@dataclass(frozen=True)
class BuildOptions:
    """What image to build, for what; the defaults are those of the command line."""

    #: A name of `images/`, or the path of a recipe's folder.
    image: str = defaults.IMAGE
    engine: str = defaults.ENGINE
    suite: str = defaults.SUITE
    #: Debian's name; empty for this machine's.
    architecture: str = ""
    #: Take the lock and nothing else, and fail where the image has not the ids of the lock.
    frozen: bool = False
    #: Where a file of the lock is gone, solve the packages anew; never where `frozen`.
    solve_anew: bool = True
    allow_expired: bool = False
    #: Name of an ancestor of `image`, which is built instead, from the locks that `image` stands on.
    ancestor: str = ""
    #: The Docker context, or address, of the engine where maintainer scripts run; empty for a sandbox here.
    builder: str = ""

    @property
    def target(self) -> str:
        """The architecture to build for."""
        machine = platform.machine().lower()
        return self.architecture or BY_MACHINE.get(machine, machine)


def lock_path(recipes: Sequence[Recipe], index: int, options: BuildOptions, choice: str) -> Path:
    """Return the path of the lock of `recipes[index]`; it names an engine only where the image has one.

    It lies in the recipe's folder. But where a recipe outside `images/` stands over one inside, the locks of
    both lie with the former, in PARENTS: what is installed with the package is not for writing.
    """
    recipe = recipes[index]
    with_engine = any(one.engines for one in recipes[: index + 1])
    engine = f"-{choice}" if with_engine else ""
    over = next((one for one in recipes[index:] if one.outside), recipe)
    folder = over.folder if over is recipe else over.folder / PARENTS / recipe.name
    return folder / f"{options.suite}-{options.target}{engine}.lock"


def with_ancestors(project: Project, options: BuildOptions) -> tuple[list[Recipe], int]:
    """Return the recipes of `options.image` and its ancestors, first ancestor first, and how many to take.

    The others are those above `options.ancestor`, whose folders tell where locks lie. Raises RecipeError.
    """
    recipes = recipe_files.with_parents(project, options.image)
    names = [recipe.name for recipe in recipes]
    return recipes, names.index(options.ancestor) + 1 if options.ancestor else len(recipes)


def load_keys(project: Project, recipes: Sequence[Recipe]) -> Keys:
    """Return the project's keys and archives, and those of the recipes outside `images/`."""
    return keyrings.load(project.keys, *(one.folder / "keys" for one in recipes if one.outside))


def resolve(project: Project, options: BuildOptions) -> list[BuildInputs]:
    """Return the inputs of the image that `options` names and of its ancestors, first ancestor first.

    The locks are those that are committed. Raises RecipeError where one is missing, or has another parent.
    """
    recipes, count = with_ancestors(project, options)
    keys = load_keys(project, recipes)
    check_names(keys, options)
    choice = choose_engine(recipes, options)
    chain: list[BuildInputs] = []
    parent_identity = ""
    for index, recipe in enumerate(recipes[:count]):
        path = lock_path(recipes, index, options, choice)
        try:
            lock = locks.read(path)
            _belongs(lock, path, recipe, options, parent_identity)
        except RecipeError as error:
            advice = error.next_step.replace("invoke lock", recipes[-1].command("lock"))
            raise RecipeError(error.cause, advice) from None
        parent_identity = locks.identity(lock)
        chain.append(compose(chain, recipes, keys, choice, lock, from_lock=True))
        there = {row.name for one in chain for row in one.lock.rows}
        if missing := sorted(set(chain[-1].requested) - there):
            raise RecipeError(
                f"The recipe of {recipe.name} asks for {', '.join(missing)}, which its lock does not have.",
                f"Run: {recipes[-1].command('lock')}",
            )
    return chain


def check_names(keys: Keys, options: BuildOptions) -> None:
    """Raise RecipeError for an unknown suite or architecture."""
    suites = sorted({suite for archive in keys.archives.values() for suite in archive.suites})
    if options.suite not in suites:
        raise RecipeError(
            f"No archive of keys/archives.toml has a suite {options.suite!r}.",
            f"{did_you_mean(options.suite, suites)}There are: {', '.join(suites)}.",
        )
    if options.target not in DEBIAN:
        own = BY_MACHINE.get(options.target, "")
        hint = f"Debian calls it {own}. " if own else did_you_mean(options.target, DEBIAN)
        raise RecipeError(
            f"Debian has no architecture {options.target!r}.", f"{hint}There are: {', '.join(DEBIAN)}."
        )


def compose(
    chain: Sequence[BuildInputs],
    recipes: Sequence[Recipe],
    keys: Keys,
    choice: str,
    lock: Lock,
    *,
    from_lock: bool,
) -> BuildInputs:
    """Return the inputs of the recipe after those of `chain`, with `lock`."""
    index = len(chain)
    with_engine = any(recipe.engines for recipe in recipes[: index + 1])
    return BuildInputs(
        recipe=recipes[index],
        choice=choice if with_engine else "",
        lock=lock,
        keys=keys,
        parent=chain[-1] if chain else None,
        from_lock=from_lock,
    )


def _belongs(lock: Lock, path: Path, recipe: Recipe, options: BuildOptions, parent_identity: str) -> None:
    """Check that the lock at `path` is for this image, these options and this parent."""
    if (lock.image, lock.suite, lock.architecture) != (recipe.name, options.suite, options.target):
        raise RecipeError(
            f"{path} is the lock of {lock.image} for {lock.suite} on {lock.architecture}, "
            f"not of {recipe.name} for {options.suite} on {options.target}.",
            "Restore it with git, or run: invoke lock",
        )
    if lock.parent != parent_identity:
        raise RecipeError(
            f"The lock of {recipe.name} was made over another lock of {recipe.parent or 'no parent'}.",
            "Restore both with git, or run: invoke lock",
        )


def choose_engine(recipes: Sequence[Recipe], options: BuildOptions) -> str:
    """Return the name of the engine to take, or the empty string where no recipe has engines.

    `auto` is the first of PREFERENCE with a committed lock, else docker.io. The network is never asked.
    Raises RecipeError for an engine that the recipe does not have.
    """
    first = next((recipe for recipe in recipes if recipe.engines), None)
    if first is None:
        return ""
    if options.engine != "auto":
        first.engine(options.engine)
        return options.engine
    names = [*(name for name in PREFERENCE if name in first.engines), *sorted(first.engines)]
    # Where a recipe outside images/ has no lock yet, those of its ancestors in images/ count.
    inside = [recipe for recipe in recipes if not recipe.outside]
    for chain in (recipes, inside):
        for name in names:
            if chain and lock_path(chain, len(chain) - 1, options, name).is_file():
                return name
    return WITHOUT_LOCK if WITHOUT_LOCK in names else names[0]
