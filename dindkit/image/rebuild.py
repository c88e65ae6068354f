"""Build an image anew in an empty state folder; and compare an image archive with its lock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from dindkit import owner
from dindkit.errors import DindkitError
from dindkit.formats import compare
from dindkit.formats.compare import Difference
from dindkit.formats.image_archive import open_archive
from dindkit.image import build, build_options
from dindkit.image.build import Built
from dindkit.image.build_options import BuildOptions
from dindkit.image.built import opened
from dindkit.image.expected_ids import ON_PURPOSE, DifferentError, deviations, ids_of
from dindkit.packages.lock import Expected
from dindkit.progress import Progress
from dindkit.project import Project


def rebuild(project: Project, options: BuildOptions, progress: Progress) -> Built:
    """Build the image from its lock, with empty state and cache, and compare its ids with the lock's.

    The built image is deleted again. Raises DifferentError where the ids differ or the lock has none, and
    DindkitError as `build` does.
    """
    with _rebuilt(project, options, progress, with_cache=False) as built:
        wanted = built.inputs.lock.expected
        said = deviations(ids_of(built), wanted) if wanted else ["the lock names no identity"]
        seal = built.inputs.recipe.command("lock --seal")
    if said:
        raise DifferentError(
            f"{built.reference} is not what its lock says: {'; '.join(said)}.", ON_PURPOSE.format(seal)
        )
    return built


@contextmanager
def _rebuilt(
    project: Project, options: BuildOptions, progress: Progress, *, with_cache: bool
) -> Iterator[Built]:
    """Yield the image, built in an empty state folder that is deleted after the block.

    With `with_cache` the download cache is used: its files are hashed against the lock anyway.
    """
    with owner.workspace(project.state, "verify", 0o700) as folder:
        fresh = replace(project, state=folder / "state")
        if not with_cache:
            fresh = replace(fresh, cache=folder / "cache")
        yield build.build(fresh, replace(options, frozen=True), progress, check_ids=False)


def against(project: Project, options: BuildOptions, archive: Path, progress: Progress) -> list[Difference]:
    """Return every difference between the image in `archive` and the one that the lock describes.

    Its configuration and layers are hashed against the lock's ids. The image is rebuilt, to name the
    differing paths, only where they differ or the lock has none. Raises DindkitError where a lock without ids
    cannot be built, or `archive` is no image archive.
    """
    lock = build_options.resolve(project, options)[-1].lock
    with progress.step("hash layers"):
        found = _ids_in(archive)
    if lock.expected is None:
        progress.warn(
            f"The lock of {lock.image} names no ids: the image is compared with what the lock builds here."
        )
        return _paths(project, options, archive, progress, lock.expected)
    said = deviations(found, lock.expected)
    if not said:
        return []
    progress.note(f"{archive.name}: {'; '.join(said)}. The image is rebuilt, to name the paths.")
    paths: list[Difference] = []
    try:
        paths = _paths(project, options, archive, progress, lock.expected)
    except DindkitError as error:
        progress.warn(f"Without a rebuild no paths can be named. {error}")
    return paths or [Difference(-1, "", "not the lock's ids", one) for one in said]


def _ids_in(archive: Path) -> Expected:
    """Return the ids of the image in `archive`, each of them hashed from its bytes."""
    with open_archive(archive) as opened:
        return Expected(opened.image_id, tuple(map(opened.diff_id, opened.image.layers)))


def _paths(
    project: Project, options: BuildOptions, archive: Path, progress: Progress, wanted: Expected | None
) -> list[Difference]:
    """Return the differences to a rebuilt image; warn where that one has not the lock's ids either."""
    with _rebuilt(project, options, progress, with_cache=True) as built:
        if wanted and (said := deviations(ids_of(built), wanted)):
            progress.warn(f"What is rebuilt here is not what its lock promises: {'; '.join(said)}.")
        with progress.step("compare layers"), opened(built) as layout:
            return compare.image(layout, archive, built.folder)
