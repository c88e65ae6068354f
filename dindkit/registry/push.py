"""`invoke push`: build an image for one or several architectures, and push it to a registry."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from dindkit.errors import DindkitError
from dindkit.image import built as built_images
from dindkit.image import sbom
from dindkit.image.build import build
from dindkit.image.build_options import BuildOptions, resolve
from dindkit.progress import Progress, size
from dindkit.project import Project
from dindkit.registry.client import Repository
from dindkit.registry.publish import COMPRESSIONS, Image, Pushed, publish
from dindkit.registry.reference import parse


def push(
    project: Project,
    options: BuildOptions,
    reference: str,
    progress: Progress,
    *,
    architectures: Sequence[str] = (),
    compression: str = "zstd",
    level: int | None = None,
    insecure: bool = False,
    join: bool = False,
) -> Pushed:
    """Build the image, or take it from the state folder, and push it to `reference`.

    `architectures` are Debian's names; by default there is one, that of `options`. `insecure` allows plain
    HTTP with a registry that is not on this machine. `level` is zstd's, by default the fixed one. For
    `compression` and `join` see `publish`. Raises DindkitError.
    """
    target = parse(reference)
    if compression not in COMPRESSIONS:
        known = ", ".join(COMPRESSIONS)
        raise DindkitError(f"Layers cannot be compressed with {compression}.", f"Known: {known}.")
    if level is not None and compression != "zstd":
        raise DindkitError("--level is for zstd.", f"Leave it out with --compression={compression}.")
    built_images.check_level(level)
    builds = [replace(options, architecture=one) for one in architectures or (options.architecture,)]
    for each in builds:
        resolve(project, each)  # a misspelt option is reported before anything is built or sent
    repository = Repository(target, insecure=insecure)
    with ExitStack() as stack:
        images = []
        for each in builds:
            built = build(project, each, progress)
            zstd = compression == "zstd"
            with progress.step(f"compress {built.reference}" if zstd else "hash layers") as step:
                form = built_images.compressed(built, level) if zstd else built_images.opened(built)
                layout = stack.enter_context(form)
                layout.hold_layers()
                if zstd:
                    step.detail = f"{size(layout.size)}, of {size(built.size)}"
            images.append(Image(layout, sbom.read(built)))
        return publish(images, repository, progress, compression=compression, join=join)
