"""`invoke lock --seal`: build from each lock, and write the resulting image id and diff_ids into it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from dindkit.errors import DindkitError, ToolMissingError
from dindkit.image import build, build_options, committed_locks, locking
from dindkit.image import recipe as recipes
from dindkit.image.build_options import BuildOptions
from dindkit.image.expected_ids import ids_of
from dindkit.image.locking import Chain, LockChange
from dindkit.packages import lock as locks
from dindkit.packages.lock import Lock
from dindkit.progress import Progress
from dindkit.project import Project
from dindkit.sandbox.interface import NoSandboxError


def seal(project: Project, options: BuildOptions, progress: Progress) -> list[LockChange]:
    """Build the image and all over the same base, write their ids into their locks, and return what changed.

    The locked packages do not change, so a file that is gone is an error here. Raises DindkitError; the locks
    of that image have not changed then.
    """
    chosen = build_options.resolve(project, options)[-1]
    locking.check_writable(project, chosen.recipe)
    sealed: dict[Path, LockChange] = {}
    for chain in locking.chains_over_same_base(project, options, chosen.choice):
        for change in _seal_chain(project, options, chain, sealed, progress):
            sealed[change.path] = change
    return list(sealed.values())


def seal_all(project: Project, progress: Progress) -> list[LockChange]:
    """Seal every lock beside the recipes of `images/`: all suites, engines and architectures.

    An architecture whose programs cannot run here is left out, with a warning. What fails is named, and the
    others go on. Returns what changed; raises DindkitError at the end where some could not be sealed.
    """
    found = list(committed_locks.committed(project, progress))
    for _, lock in found[:1]:
        locking.check_writable(project, recipes.load(project, lock.image))
    sealed: dict[Path, LockChange] = {}
    left_out: set[str] = set()
    failed: list[str] = []
    for count, (path, lock) in enumerate(found, 1):
        label = f"{path.parent.name}/{path.name}"
        if lock.architecture in left_out or path in sealed:
            continue
        progress.note(f"seal {label} ({count} of {len(found)})")
        try:
            for change in _seal_committed(project, lock, sealed, progress):
                sealed[change.path] = change
        except (NoSandboxError, ToolMissingError) as error:
            left_out.add(lock.architecture)
            progress.warn(f"Locks for {lock.architecture} are left as they are. {error}")
        except DindkitError as error:
            failed.append(label)
            progress.warn(f"{label} is left as it is. {error}")
    written = sum(one.written for one in sealed.values())
    progress.note(f"{len(sealed)} of {len(found)} locks are sealed, {written} with other ids than before.")
    if failed:
        raise DindkitError(
            f"Not sealed: {', '.join(failed)}.", "See above; for new packages run: invoke lock"
        )
    return list(sealed.values())


def _seal_committed(
    project: Project, lock: Lock, sealed: dict[Path, LockChange], progress: Progress
) -> Iterator[LockChange]:
    """Seal a lock, and those that it stands on, as far as they are not in `sealed`."""
    options = BuildOptions(lock.image, lock.engine or "auto", lock.suite, lock.architecture)
    chain = locking.chain_of(project, options, lock.engine)
    yield from _seal_chain(project, options, chain, sealed, progress)


def _seal_chain(
    project: Project,
    options: BuildOptions,
    chain: Chain,
    sealed: dict[Path, LockChange],
    progress: Progress,
) -> Iterator[LockChange]:
    """Build the images of `chain` whose locks are not in `sealed`, and yield each lock once it is written."""
    for recipe, path in zip(chain.recipes, chain.paths, strict=True):
        if path in sealed:
            continue
        image = chain.recipes[-1].reference
        engine = chain.choice or "auto"
        one = replace(options, image=image, ancestor=recipe.name, engine=engine, frozen=True)
        built = build.build(project, one, progress, check_ids=False)
        lock = locks.read(path)
        new = replace(lock, expected=ids_of(built))
        if new != lock:
            locks.write(new, path)
        yield LockChange(path, new, written=new != lock)
