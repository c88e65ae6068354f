"""The layer of an image's packages: assembled once for the same inputs, then kept in the state folder."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from dindkit.errors import DindkitError
from dindkit.files import locked, open_regular, replacing
from dindkit.formats.contents import ContentStore
from dindkit.formats.layer import Layer, difference
from dindkit.formats.layer_store import LayerStore
from dindkit.formats.tree import Tree
from dindkit.image import code_digest, state_keys
from dindkit.image.assemble import assemble
from dindkit.image.build_inputs import BuildInputs
from dindkit.image.staging import Staging
from dindkit.progress import Progress, size
from dindkit.project import Project
from dindkit.sandbox.interface import Sandbox

#: Bytes of layer.json.
LARGEST_DESCRIPTION = 10_000


def _folder(project: Project, inputs: BuildInputs) -> Path:
    return project.state / "packages" / f"{inputs.recipe.name}-{state_keys.packages(project, inputs)[:32]}"


def find(project: Project, inputs: BuildInputs) -> Layer | None:
    """Return the layer that was already made from the same inputs, or None."""
    return _read(_folder(project, inputs), LayerStore(project.state / "layers"))


def _read(folder: Path, store: LayerStore) -> Layer | None:
    try:
        with open_regular(folder / "layer.json") as file:
            layer = Layer(**json.loads(file.read(LARGEST_DESCRIPTION)))
    except (FileNotFoundError, ValueError, TypeError, RecursionError):
        return None
    return layer if store.holds(layer) else None


def make(
    project: Project,
    inputs: BuildInputs,
    staging: Staging,
    below: Tree | None,
    contents: ContentStore,
    sandbox: Sandbox,
    progress: Progress,
) -> Layer:
    """Return the layer of the packages of `inputs`; `below` is the parent's tree.

    `staging` is already checking the packages; it is not used where `find` has the layer. Raises TrustError,
    DebError, SandboxError, and DindkitError where the program changes meanwhile; no layer is kept then.
    """
    store = LayerStore(project.state / "layers")
    folder = _folder(project, inputs)
    with locked(folder / "lock"):
        found = _read(folder, store)  # another process may have built it meanwhile
        if found:
            return found
        try:
            tree = assemble(inputs, staging, below, contents, sandbox, progress)
            with progress.step(f"pack {inputs.recipe.name}") as step:
                held = staging.hold(inputs.lock.rows)
                layer = store.add(difference(tree, below), contents)
                step.detail = size(layer.size)
        except (DindkitError, OSError):
            staging.hold(inputs.lock.rows)()  # what has failed may be what comes of it
            raise
        held()
        staging.drop(inputs.lock.rows)
        code_digest.require_unchanged(state_keys.PACKAGES_MODULE)
        with replacing(folder / "layer.json") as file:
            file.write(json.dumps(asdict(layer)).encode())
    return layer
