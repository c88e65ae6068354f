"""`invoke lock`: solve for an image and all over the same base; or solve anew where a locked file is gone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dindkit.errors import RecipeError
from dindkit.image import build_options, recipe_folders
from dindkit.image import recipe as recipes
from dindkit.image.build_inputs import BuildInputs
from dindkit.image.build_options import BuildOptions
from dindkit.image.recipe import Recipe
from dindkit.image.recipe_folders import RECIPE_FILE
from dindkit.packages import lock as locks
from dindkit.packages import make_lock, release
from dindkit.packages.download_cache import DownloadCache, GoneError
from dindkit.packages.keys import Keys
from dindkit.packages.lock import Change, Lock
from dindkit.packages.make_lock import FetchedIndexes
from dindkit.packages.solver import Request
from dindkit.progress import Progress
from dindkit.project import Project


@dataclass(frozen=True)
class Chain:
    """An image with its parents, first ancestor first, for one engine, and the paths of their locks."""

    recipes: Sequence[Recipe]
    choice: str
    paths: Sequence[Path]

    @property
    def archives(self) -> set[str]:
        """The archives that only the engine needs."""
        engines = [recipe.engines[self.choice] for recipe in self.recipes if self.choice in recipe.engines]
        return {engine.archive for engine in engines if engine.archive}


@dataclass(frozen=True)
class LockChange:
    """What has become of one lock."""

    path: Path
    lock: Lock
    #: Whether the file has changed, if only in its dates or ids.
    written: bool
    #: Whether there was no such lock before.
    new: bool = False
    changes: tuple[Change, ...] = ()

    def lines(self) -> list[str]:
        """Return what is printed of it."""
        start = f"{self.path.name} of {self.lock.image}:"
        if not self.written:
            return [f"{start} nothing has changed."]
        listed = [] if self.new else [f"  {change}" for change in self.changes]
        return [f"{start} {len(self.lock.rows)} packages, {len(self.changes)} changed.", *listed]


def chain_of(project: Project, options: BuildOptions, choice: str) -> Chain:
    """Return the chain of the image that `options` names. Raises RecipeError."""
    own, count = build_options.with_ancestors(project, options)
    paths = [build_options.lock_path(own, i, options, choice) for i in range(count)]
    return Chain(own[:count], choice, paths)


def _beside(project: Project, chain: Chain) -> list[str]:
    """Return the other images that may stand over the same base: of `images/`, or of the folders beside."""
    if not chain.recipes[-1].outside:
        return recipe_folders.names(project)
    found = []
    for parent in sorted({one.folder.parent for one in chain.recipes if one.outside}):
        for file in sorted(parent.glob(f"*/{RECIPE_FILE}")):
            try:
                recipes.with_parents(project, str(file.parent))
                found.append(str(file.parent))
            except RecipeError:
                continue  # a folder beside the recipe need not have to do with it
    return found


def check_writable(project: Project, recipe: Recipe) -> None:
    """Raise RecipeError where the lock of `recipe` is a file of the installed package."""
    if project.installed and not recipe.outside:
        raise RecipeError(
            f"The lock of {recipe.name} comes with the installed package, and is not for writing.",
            f"Lock a recipe of your own over it instead: invoke init my-{recipe.name} --parent {recipe.name}",
        )


def chains_over_same_base(project: Project, options: BuildOptions, choice: str) -> list[Chain]:
    """Return the chains of the named image and of every other committed lock over the same first ancestor.

    They change together: a lock names the lock of its parent.
    """
    asked_for = chain_of(project, options, choice)
    found = [asked_for]
    for image in _beside(project, asked_for):
        engines = {name for recipe in recipes.with_parents(project, image) for name in recipe.engines}
        for engine in sorted(engines) or [""]:
            chain = chain_of(project, replace(options, image=image), engine)
            known = {path for one in found for path in one.paths}
            own = chain.paths[-1]
            if chain.paths[0] == asked_for.paths[0] and own.is_file() and own not in known:
                found.append(chain)
    return found


def _requests(recipe: Recipe, choice: str) -> list[Request]:
    engine = recipe.engines.get(choice)
    requests = [Request(name) for name in recipe.packages]
    if engine:
        requests += [Request(name, engine.archive) for name in engine.packages]
    return requests


def _fetch_indexes(
    project: Project,
    chains: Iterable[Chain],
    options: BuildOptions,
    keys: Keys,
    old: Iterable[Lock],
    progress: Progress,
) -> FetchedIndexes:
    return make_lock.fetch_indexes(
        keys,
        DownloadCache(project.cache),
        options.suite,
        options.target,
        progress,
        archives=sorted(set().union(*(chain.archives for chain in chains))),
        since=[record for lock in old for record in lock.archives],
        allow_expired=options.allow_expired,
    )


def _solve(
    found: FetchedIndexes,
    chain: Chain,
    old: Mapping[Path, Lock],
    new: dict[Path, Lock],
    allow_downgrade: bool,
) -> None:
    """Add to `new` the locks of `chain` that it lacks, each with the identity of its parent's lock.

    A lock of `old` whose packages and parent have not changed is kept, though InRelease may be newer.
    """
    parents: list[Lock] = []
    for recipe, path in zip(chain.recipes, chain.paths, strict=True):
        if path not in new:
            with_engine = any(one.engines for one in chain.recipes[: len(parents) + 1])
            lock = make_lock.make(
                found,
                _requests(recipe, chain.choice),
                image=recipe.name,
                engine=chain.choice if with_engine else "",
                parent_rows=[row for one in parents for row in one.rows],
                old=old.get(path),
                allow_downgrade=allow_downgrade,
            )
            parent = locks.identity(parents[-1]) if parents else ""
            if path in old and old[path].rows == lock.rows:
                lock = old[path]
            if lock.parent != parent:
                lock = replace(lock, parent=parent, expected=None)  # its ids were for another parent
            new[path] = lock
        parents.append(new[path])


def _committed(chains: Iterable[Chain], options: BuildOptions) -> dict[Path, Lock]:
    """Return the locks that there are, by the paths that they are to be written to.

    Where a recipe outside `images/` is locked for the first time, those of `images/` are its ancestors'.
    """
    found: dict[Path, Lock] = {}
    for chain in chains:
        inside = [recipe for recipe in chain.recipes if not recipe.outside]
        for index, path in enumerate(chain.paths):
            source = path
            if not path.is_file() and index < len(inside):
                source = build_options.lock_path(inside, index, options, chain.choice)
            if source.is_file():
                found[path] = locks.read(source)
    return found


def lock(
    project: Project, options: BuildOptions, progress: Progress, *, allow_downgrade: bool = False
) -> list[LockChange]:
    """Solve for one image and all over the same base, write their locks, and return what changed.

    Where the archive of another image's engine cannot be reached, that image's lock is left as it is, and a
    warning names it. Raises RecipeError, TrustError or UnavailableError; no lock has changed then.
    """
    own = recipes.with_parents(project, options.image)
    check_writable(project, own[-1])
    keys = build_options.load_keys(project, own)
    choice = build_options.choose_engine(own, options)
    asked_for, *others = chains_over_same_base(project, options, choice)
    chains = [
        asked_for,
        *(chain for chain in others if _answer(keys, chain, asked_for, options)),
    ]
    old = _committed(chains, options)
    found = _fetch_indexes(project, chains, options, keys, old.values(), progress)
    new: dict[Path, Lock] = {}
    for chain in chains:
        _solve(found, chain, old, new, allow_downgrade)
    changes = _write(old, new)
    for chain in others:
        if chain not in chains:
            _name_left_alone(chain, new, progress)
    return changes


def _answer(keys: Keys, chain: Chain, asked_for: Chain, options: BuildOptions) -> bool:
    """Return whether each archive of `chain` can be reached, or is needed by `asked_for` anyway."""
    archives = [keys.archive(name) for name in chain.archives - asked_for.archives]
    suites = [(archive, archive.suites.get(options.suite, ())) for archive in archives]
    return all(theirs and release.reachable(archive, theirs[0]) for archive, theirs in suites)


def _name_left_alone(chain: Chain, new: Mapping[Path, Lock], progress: Progress) -> None:
    """Warn that the lock of `chain` stays as it is, because its archive cannot be reached."""
    path, parent = chain.paths[-1], new.get(chain.paths[-2])
    moved = parent and locks.read(path).parent != locks.identity(parent)
    progress.warn(
        f"{path.name} of {chain.recipes[-1].name} is left as it is, for its archive cannot be reached"
        + (f", and stands over the earlier lock of {chain.recipes[-2].name}" if moved else "")
        + f". Later, run: invoke lock --engine {chain.choice}"
    )


def _write(old: Mapping[Path, Lock], new: Mapping[Path, Lock]) -> list[LockChange]:
    changed = {
        path: after
        for path, after in new.items()
        if not path.is_file() or path.read_text("utf-8") != locks.render(after)
    }
    locks.write_all(changed)
    return [
        LockChange(
            path,
            after,
            written=path in changed,
            new=path not in old,
            changes=tuple(locks.difference(old.get(path), after)) if path in changed else (),
        )
        for path, after in new.items()
    ]


def solve_anew(
    project: Project, options: BuildOptions, chain: Sequence[BuildInputs], gone: GoneError, progress: Progress
) -> list[BuildInputs]:
    """Return inputs with packages solved anew, under the same keys, because files of the locks are gone.

    Prints each package that changed. The committed locks stay as they are.
    """
    progress.warn(f"{gone.cause} Solving anew; the image will not be the one that the lock describes.")
    keys, choice = chain[-1].keys, chain[-1].choice
    locked = chain_of(project, options, choice)
    old = {path: one.lock for path, one in zip(locked.paths, chain, strict=True)}
    new: dict[Path, Lock] = {}
    _solve(_fetch_indexes(project, [locked], options, keys, old.values(), progress), locked, old, new, False)
    solved: list[BuildInputs] = []
    for path, after in new.items():
        for change in locks.difference(old[path], after):
            progress.note(f"  {change}")
        solved.append(build_options.compose(solved, locked.recipes, keys, choice, after, from_lock=False))
    return solved
