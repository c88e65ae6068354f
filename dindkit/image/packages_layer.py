"""The layer that an image's packages make: assembled once for the same inputs, and kept beside the images."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from dindkit.files import locked, open_regular, replacing
from dindkit.formats.layer import Layer, difference
from dindkit.formats.layer_store import LayerStore
from dindkit.formats.tree import Spool, Tree
from dindkit.image import state_keys
from dindkit.image.assemble import assemble
from dindkit.image.inputs import Ingredients
from dindkit.image.staging import Staging
from dindkit.progress import Progress, size
from dindkit.project import Project
from dindkit.sandbox.interface import Sandbox

#: Bytes of layer.json.
LARGEST_DESCRIPTION = 10_000


def _folder(project: Project, made: Ingredients) -> Path:
    return project.state / "packages" / f"{made.recipe.name}-{state_keys.packages(project, made)[:32]}"


def find(project: Project, made: Ingredients) -> Layer | None:
    """Return the layer that was made from the same inputs before, or None."""
    return _read(_folder(project, made), LayerStore(project.state / "layers"))


def _read(folder: Path, store: LayerStore) -> Layer | None:
    try:
        with open_regular(folder / "layer.json") as file:
            layer = Layer(**json.loads(file.read(LARGEST_DESCRIPTION)))
    except (FileNotFoundError, ValueError, TypeError, RecursionError):
        return None
    return layer if store.holds(layer) else None


def make(
    project: Project,
    made: Ingredients,
    staging: Staging,
    below: Tree | None,
    spool: Spool,
    sandbox: Sandbox,
    progress: Progress,
) -> Layer:
    """Return the layer of `made`'s packages over the tree `below`, which its parent's layers make.

    `staging` has begun to check them; it is not asked for any where `find` has the layer. Raises TrustError,
    DebError, SandboxError.
    """
    store = LayerStore(project.state / "layers")
    folder = _folder(project, made)
    with locked(folder / "lock"):
        found = _read(folder, store)  # another build may have made it meanwhile
        if found:
            return found
        tree = assemble(made, staging, below, spool, sandbox, progress)
        with progress.step(f"pack {made.recipe.name}") as step:
            layer = store.add(difference(tree, below), spool)
            staging.drop(made.lock.rows)
            step.detail = size(layer.size)
        with replacing(folder / "layer.json") as file:
            file.write(json.dumps(asdict(layer)).encode())
    return layer
