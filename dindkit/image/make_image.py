"""Make one image: the layer of its packages, the layer of its own files, and its documents."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from dindkit.formats.layer import apply, difference
from dindkit.formats.layer_store import LayerStore
from dindkit.formats.tree import Spool, Tree
from dindkit.image import assemble, own_files, packages_layer
from dindkit.image import built as built_images
from dindkit.image.built import Built
from dindkit.image.describe import FILES, PACKAGES, Source
from dindkit.image.inputs import Ingredients
from dindkit.packages.lock import Row
from dindkit.progress import Progress
from dindkit.project import Project
from dindkit.sandbox.choice import DefaultSandbox
from dindkit.sandbox.interface import Sandbox


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

    A recipe's packages make one layer and its own files another; where it has only one of both, that is all.
    Raises DindkitError; `folder` is left as it was then.
    """
    sandbox = sandbox or DefaultSandbox(project, progress)
    store = LayerStore(project.state / "layers")
    name = ingredients.recipe.name
    layers = list(parent.layers) if parent else []
    sources = list(parent.sources) if parent else []
    with built_images.forgetting_damage(), _workspace(project) as work, closing(Spool(work)) as spool:
        tree = Tree(spool)
        for one in layers:
            apply(tree, store.entries(one, spool))
        if ingredients.lock.rows:
            below = tree if parent else None
            made = packages_layer.find(project, ingredients) or packages_layer.make(
                project, ingredients, files, below, spool, sandbox, progress
            )
            layers.append(made)
            sources.append(Source(name, PACKAGES))
            apply(tree, store.entries(made, spool))
            whole = own_files.overlay(tree, ingredients)
        else:
            whole = own_files.overlay(assemble.without_packages(ingredients, tree), ingredients)
        own = difference(whole, tree)
        if own or not ingredients.lock.rows:
            layers.append(store.add(own, spool))
            sources.append(Source(name, FILES))
    built = built_images.of(ingredients, tuple(layers), tuple(sources), folder)
    built_images.write(built)
    return built
