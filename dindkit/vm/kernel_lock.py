"""The lock of a kernel: its packages, by version and SHA-256, for each suite and architecture."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from dindkit.errors import RecipeError
from dindkit.image import build_options
from dindkit.image.build_options import BuildOptions
from dindkit.image.locking import LockChange
from dindkit.packages import keys as keyrings
from dindkit.packages import lock as locks
from dindkit.packages import make_lock
from dindkit.packages.download_cache import DownloadCache
from dindkit.packages.index import PackageIndex
from dindkit.packages.lock import REQUESTED, Lock
from dindkit.packages.solver import Chosen
from dindkit.progress import Progress
from dindkit.project import Project

#: What a kernel's lock has in the place of an image's name.
KERNEL = "kernel"
#: What `invoke lock` must be told to write such a lock.
ADVICE = "Run: invoke lock --kernel"


def name_of(architecture: str) -> str:
    """Return the package that depends on the newest kernel for virtual machines."""
    return f"linux-image-cloud-{architecture}"


def path(project: Project, options: BuildOptions) -> Path:
    """Return the path of the lock, whether it is there or not."""
    return project.kernels / f"{options.suite}-{options.target}.lock"


def read(project: Project, options: BuildOptions) -> Lock:
    """Read the lock. Raises RecipeError where there is none, or where it is another's."""
    file = path(project, options)
    try:
        lock = locks.read(file)
    except RecipeError as error:
        advice = f"{ADVICE} --suite {options.suite} --arch {options.target}"
        raise RecipeError(error.cause, error.next_step.replace("Run: invoke lock", advice)) from None
    if (lock.image, lock.suite, lock.architecture) != (KERNEL, options.suite, options.target):
        raise RecipeError(f"{file.name} is not the lock of that kernel.", locks.RESTORE)
    return lock


def lock(
    project: Project, options: BuildOptions, progress: Progress, *, allow_downgrade: bool = False
) -> LockChange:
    """Look for the suite's newest kernel, write its lock, and return what changed.

    Raises RecipeError, TrustError or UnavailableError as locking.lock does; the lock has not changed then.
    """
    if project.installed:
        raise RecipeError(
            "The locks of kernels come with the installed package, and are not for writing.",
            "Work in a clone of dindkit's repository.",
        )
    keys = keyrings.load(project.keys)
    build_options.check_names(keys, options)
    file = path(project, options)
    old = locks.read(file) if file.is_file() else None
    found = make_lock.fetch_indexes(
        keys,
        DownloadCache(project.cache),
        options.suite,
        options.target,
        progress,
        since=old.archives if old else (),
        allow_expired=options.allow_expired,
    )
    chosen = _newest(found.package_index, {archive.name for archive in found.archives})
    new = make_lock.make_of(found, chosen, image=KERNEL, old=old, allow_downgrade=allow_downgrade)
    changes = tuple(locks.difference(old, new))
    written = old is None or old.rows != new.rows
    if written:
        file.parent.mkdir(exist_ok=True)
        locks.write(new, file)
    return LockChange(file, new if old is None or written else old, written, new=old is None, changes=changes)


def _newest(index: PackageIndex, archives: Collection[str]) -> list[Chosen]:
    """Return the package that names the newest kernel, and those of the same source that it leads to.

    Until trixie that is one package with all of it; since forky there is one for each part. What else it
    depends on is for installing it.
    """
    name = name_of(index.architecture)
    alias = next(index.offered(name, archives), None)
    found = {name: Chosen(alias, REQUESTED)} if alias else {}
    waiting = list(found)
    while waiting:
        by = found[waiting.pop(0)].package
        for wanted in (one for group in by.needs for one in group):
            package = next(
                (one for one in index.offered(wanted.name, archives) if one.satisfies(wanted)), None
            )
            if package and package.name not in found and package.version == by.version:
                found[package.name] = Chosen(package, by.name)
                waiting.append(package.name)
    if len(found) < 2:
        raise RecipeError(
            f"There is no package {name} in {' or '.join(sorted(archives))}, or not its kernel."
        )
    return list(found.values())
