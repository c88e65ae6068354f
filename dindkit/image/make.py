"""Make one image: assemble its tree, take the difference to its parent's, pack the archive."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dindkit.image import assemble, build, inputs, layer, oci, sbom
from dindkit.image.archive import open_archive
from dindkit.image.build import Built
from dindkit.image.inputs import Ingredients
from dindkit.image.layer import Layer
from dindkit.image.sandbox import Anywhere, Sandbox
from dindkit.image.tree import Spool, Tree
from dindkit.packages.lock import Row
from dindkit.progress import Progress
from dindkit.progress import size as human
from dindkit.project import Project


def labels(ingredients: Ingredients) -> dict[str, str]:
    """Return the labels that say what the image is, after OCI's annotations.md."""
    recipe, lock = ingredients.recipe, ingredients.lock
    found = {
        "org.opencontainers.image.created": oci.timestamp(ingredients.epoch),
        "org.opencontainers.image.authors": "the dindkit project",
        "org.opencontainers.image.title": recipe.title,
        "org.opencontainers.image.description": recipe.description,
        "org.opencontainers.image.version": lock.suite,
        "org.opencontainers.image.revision": inputs.revision(ingredients),
        "dindkit.suite": lock.suite,
        "dindkit.from-lock": str(ingredients.from_lock).lower(),
    }
    if ingredients.choice:
        found["dindkit.engine"] = ingredients.choice
    return found


def _history(ingredients: Ingredients) -> str:
    lock = ingredients.lock
    engine = f", engine {ingredients.choice}" if ingredients.choice else ""
    origins = ", ".join(
        f"{origin.archive} {origin.suite} {oci.timestamp(origin.date)}" for origin in lock.archives
    )
    return f"dindkit {ingredients.recipe.name}: {len(lock.rows)} packages{engine} from {origins}"


def _parts(ingredients: Ingredients, layers: tuple[Layer, ...]) -> list[oci.Part]:
    line: list[Ingredients] = []
    step: Ingredients | None = ingredients
    while step:
        line.insert(0, step)
        step = step.parent
    return [oci.Part(one, _history(made)) for one, made in zip(layers, line, strict=True)]


@contextmanager
def _workspace(project: Project) -> Iterator[Path]:
    """Yield a folder that is gone afterwards; what a killed build left there goes as well."""
    parent = project.state / "tmp"
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob("build-*"):
        number = left.name.split("-")[1]
        if number.isdigit() and not _alive(int(number)):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix=f"build-{os.getpid()}-") as name:
        yield Path(name)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def make(
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
    sandbox = sandbox or Anywhere(project, progress)
    name = ingredients.recipe.name
    with _workspace(project) as work:
        spool = Spool(work)
        below: Tree | None = None
        if parent:
            with progress.step(f"read {parent.reference}"), open_archive(parent.archive) as archive:
                below = archive.tree(spool)
        whole = assemble.assemble(ingredients, files, below, spool, sandbox, progress)
        with progress.step(f"pack {name}") as step:
            blob = work / "layer"
            with blob.open("wb") as out:
                made = layer.store(layer.difference(whole, below), spool, out)
            layers = (*(parent.layers if parent else ()), made)
            image = oci.describe(
                _parts(ingredients, layers),
                ingredients.recipe.config,
                labels(ingredients),
                ingredients.epoch,
                ingredients.lock.architecture,
                ingredients.tag,
            )
            _write(image, {made.digest: blob}, parent, work / "image.tar")
            bill = sbom.render(ingredients, whole.text("var/lib/dpkg/status"), image.image_id)
            (work / build.SBOM).write_bytes(bill)
            step.detail = human(made.size)
            spool.close()
        for file in ("image.tar", build.SBOM):
            (work / file).replace(folder / file)
    built = Built(
        reference=ingredients.tag,
        image_id=image.image_id,
        archive=folder / "image.tar",
        packages=len(ingredients.rows),
        size=sum(one.size for one in layers),
        from_lock=ingredients.from_lock,
        layers=layers,
    )
    build.keep(built)
    return built


def _write(image: oci.Image, blobs: dict[str, Path], parent: Built | None, target: Path) -> None:
    """Write the archive; the parent's layers are taken out of the parent's archive."""
    if parent:
        with open_archive(parent.archive) as archive:
            for one in parent.layers:
                blobs[one.digest] = target.with_name(one.digest.replace(":", "-"))
                with archive.blob(one) as source, blobs[one.digest].open("wb") as out:
                    shutil.copyfileobj(source, out, 1 << 20)
    with target.open("wb") as out:
        oci.write(image, blobs, out)
