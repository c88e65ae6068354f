"""`invoke build`: build an image from its locks, or take it from the state folder."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from dindkit import owner
from dindkit.errors import ArchiveError, DindkitError
from dindkit.files import locked, naming_a_full_disk
from dindkit.image import built as built_images
from dindkit.image import expected_ids, state_keys
from dindkit.image import output as outputs
from dindkit.image.build_inputs import BuildInputs
from dindkit.image.build_options import BuildOptions, resolve
from dindkit.image.built import Built
from dindkit.image.output import Output, Written
from dindkit.progress import Progress, size
from dindkit.project import Project, check_folders
from dindkit.sandbox import choice

if TYPE_CHECKING:
    from dindkit.image.staging import Staging
    from dindkit.sandbox.interface import Sandbox

__all__ = ["BuildOptions", "Built", "build"]


def build(
    project: Project,
    options: BuildOptions,
    progress: Progress,
    sandbox: Sandbox | None = None,
    *,
    check_ids: bool = True,
) -> Built:
    """Build the image that `options` names, and its parents, from their locks.

    What was built from the same inputs before is taken from the state folder. Maintainer scripts run in
    `sandbox`; by default on the engine that `options.builder` names, or else in a DefaultSandbox. Raises
    DindkitError; nothing half-written is left then, and earlier images are untouched.

    An image with other ids than its lock's causes a warning or, with `options.frozen`, an error. `lock
    --seal`, which builds to learn the ids, leaves this check out (`check_ids`).
    """
    check_folders(project, progress)
    # What a killed build has left goes also where there is nothing to do.
    owner.sweep(project.state / "tmp", "build")
    chain = resolve(project, options)
    built = _look_up(project, chain[-1], progress)
    if built is None:
        if options.builder and choice.on_builder and sandbox is None:
            sandbox = choice.on_builder(options.builder, options.target, progress)
        with naming_a_full_disk(project.state, "DINDKIT_STATE"):
            built = _build_chain(project, options, chain, progress, sandbox)
    if check_ids:
        expected_ids.check(built, progress, frozen=options.frozen)
    return built


def build_and_write(
    project: Project,
    options: BuildOptions,
    progress: Progress,
    output: Output | None,
    *,
    level: int | None = None,
    names: Sequence[str] = (),
) -> tuple[Built, Written | None]:
    """Build as `build` does, and write the image to `output`, if any, as output.write does.

    Raises DindkitError for an output that cannot be written before anything is built.
    """
    if output:
        outputs.check(output, level)
    elif level is not None:
        raise DindkitError("--level is for an archive that is written.", "Name one: --output FILE")
    built_images.check_level(level)
    built = build(project, options, progress)
    if output is None:
        return built, None
    return built, outputs.write(project, built, output, progress, level=level, names=names)


def summary(built: Built, progress: Progress) -> str:
    """Return one line: packages, size, and the time that each step of `progress` took."""
    times = "".join(f", {title} {seconds:.1f} s" for title, seconds in progress.timings.items())
    return f"{built.packages} packages, {size(built.size)}{times}"


def _build_chain(
    project: Project,
    options: BuildOptions,
    chain: list[BuildInputs],
    progress: Progress,
    sandbox: Sandbox | None,
) -> Built:
    """Build the images of `chain` that are missing, and return the last one."""
    from dindkit.image.staging import Staging

    with (
        owner.workspace(project.state / "tmp", "build", 0o700) as work,
        Staging(work / "packages") as staging,
    ):
        first, *others = _fetch(project, options, chain, staging, progress)
        built = _build_one(project, first, staging, None, progress, sandbox)
        for inputs in others:
            built = _build_one(project, inputs, staging, built, progress, sandbox)
    return built


def folder_of(project: Project, inputs: BuildInputs) -> Path:
    """Return the folder of the image of `inputs`, whether it is there or not."""
    return built_images.folder(project, inputs.recipe.name, state_keys.image(project, inputs))


def _look_up(project: Project, inputs: BuildInputs, progress: Progress) -> Built | None:
    """Return the image of `inputs` from the state folder, or None where it has to be built."""
    try:
        return built_images.read(folder_of(project, inputs), inputs)
    except ArchiveError as error:
        progress.warn(f"{error.cause} It is built anew.")
        return None


def _fetch(
    project: Project, options: BuildOptions, chain: list[BuildInputs], staging: Staging, progress: Progress
) -> list[BuildInputs]:
    """Download the packages of every image of `chain` that has to be built, for `staging` to check.

    Return `chain`; or, where a locked file is gone and `options` allow it, a chain that was solved anew.
    """
    from dindkit.packages.download_cache import GoneError

    try:
        _fetch_rows(project, chain, staging, progress)
    except GoneError as gone:
        if options.frozen or not options.solve_anew:
            raise
        from dindkit.image import locking  # imported here: solving is rare, and its imports are slow

        chain = locking.solve_anew(project, options, chain, gone, progress)
        _fetch_rows(project, chain, staging, progress)
    return chain


def _fetch_rows(project: Project, chain: list[BuildInputs], staging: Staging, progress: Progress) -> None:
    from dindkit.packages.download_cache import DownloadCache

    missing = [one for one in chain if _needs_packages(project, one, progress)]
    # Of each image the largest packages first: one that comes last is checked while the other cores wait.
    rows = [
        row for inputs in missing for row in sorted(inputs.lock.rows, key=attrgetter("size"), reverse=True)
    ]
    staging.arrange(rows)
    snapshots = {name: at for inputs in missing for name, at in inputs.lock.snapshots.items()}
    if rows:
        DownloadCache(project.cache).fetch(rows, chain[-1].keys, progress, snapshots, staging.begin)


def _needs_packages(project: Project, inputs: BuildInputs, progress: Progress) -> bool:
    if _look_up(project, inputs, progress):
        return False
    from dindkit.image import packages_layer

    return packages_layer.find(project, inputs) is None


def _build_one(
    project: Project,
    inputs: BuildInputs,
    staging: Staging,
    parent: Built | None,
    progress: Progress,
    sandbox: Sandbox | None,
) -> Built:
    folder = folder_of(project, inputs)
    with locked(folder / "lock"):
        found = _look_up(project, inputs, progress)  # another process may have built it meanwhile
        if found:
            return found
        from dindkit.image.make_image import make_image

        return make_image(project, inputs, staging, parent, folder, progress, sandbox)
