"""Make one image: assemble its tree, take the difference to its parent's, pack the archive."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from dindkit import owner
from dindkit.formats import layer, oci
from dindkit.formats.tree import Spool, Tree
from dindkit.image import assemble
from dindkit.image import built as built_images
from dindkit.image.built import Built
from dindkit.image.describe import describe_image
from dindkit.image.inputs import Ingredients
from dindkit.packages.lock import Row
from dindkit.progress import Progress
from dindkit.progress import size as human
from dindkit.project import Project
from dindkit.sandbox.choice import DefaultSandbox
from dindkit.sandbox.interface import Sandbox


def make_image(
    project: Project,
    ingredients: Ingredients,
    files: Mapping[Row, Path],
    parent: Built | None,
    folder: Path,
    progress: Progress,
    sandbox: Sandbox | None = None,
) -> Built:
    """Build the image into `folder`; `files` has its own packages, hashes checked, `parent` its built parent.

    Raises DindkitError; `folder` is left as it was then.
    """
    sandbox = sandbox or DefaultSandbox(project, progress)
    name = ingredients.recipe.name
    with owner.workspace(project.state / "tmp", "build", 0o700) as work:
        spool = Spool(work)
        below: Tree | None = None
        if parent:
            with progress.step(f"read {parent.reference}"), built_images.opened(parent) as archive:
                below = archive.tree(spool)
        whole = assemble.assemble(ingredients, files, below, spool, sandbox, progress)
        with progress.step(f"pack {name}") as step:
            blob = work / "layer"
            with blob.open("wb") as out:
                made = layer.store(layer.difference(whole, below), spool, out)
            layers = (*(parent.layers if parent else ()), made)
            image = describe_image(ingredients, layers)
            _write(image, {made.digest: blob}, parent, work / "image.tar")
            step.detail = human(made.size)
            spool.close()
        (work / "image.tar").replace(folder / "image.tar")
    built = built_images.of(ingredients, layers, folder)
    built_images.write(built)
    return built


def _write(image: oci.Image, blobs: dict[str, Path], parent: Built | None, target: Path) -> None:
    """Write the archive; the parent's layers are taken out of the parent's archive."""
    if parent:
        with built_images.opened(parent) as archive:
            for one in parent.layers:
                blobs[one.digest] = target.with_name(one.digest.replace(":", "-"))
                with archive.blob(one) as source, blobs[one.digest].open("wb") as out:
                    shutil.copyfileobj(source, out, 1 << 20)
    with target.open("wb") as out:
        oci.write(image, blobs, out)
