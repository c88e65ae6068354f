"""Make one image: the layer of its packages, the layer of its own files, and its documents."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from dindkit import owner
from dindkit.formats.contents import ContentStore
from dindkit.formats.layer import apply, difference
from dindkit.formats.layer_store import LayerStore
from dindkit.image import assemble, code_digest, own_files, packages_layer, state_keys
from dindkit.image import built as built_images
from dindkit.image.build_inputs import BuildInputs
from dindkit.image.built import Built
from dindkit.image.image_config import FILES, PACKAGES, Source
from dindkit.image.staging import Staging
from dindkit.progress import Progress
from dindkit.project import Project
from dindkit.sandbox.choice import DefaultSandbox
from dindkit.sandbox.interface import Sandbox


def make_image(
    project: Project,
    inputs: BuildInputs,
    staging: Staging,
    parent: Built | None,
    folder: Path,
    progress: Progress,
    sandbox: Sandbox | None = None,
) -> Built:
    """Build the image over `parent`, into `folder`; `staging` is already checking its packages.

    A recipe's packages are one layer and its own files another; a recipe may have only one of these. Raises
    DindkitError; `folder` has not changed then.
    """
    sandbox = sandbox or DefaultSandbox(project, progress, inputs.lock.architecture)
    store = LayerStore(project.state / "layers")
    name = inputs.recipe.name
    layers = list(parent.layers) if parent else []
    sources = list(parent.sources) if parent else []
    with (
        built_images.forgetting_damage(),
        owner.workspace(project.state / "tmp", "build", 0o700) as work,
        closing(ContentStore(work)) as contents,
    ):
        _, tree = store.tree(layers, contents)
        if inputs.lock.rows:
            below = tree if parent else None
            made = packages_layer.find(project, inputs) or packages_layer.make(
                project, inputs, staging, below, contents, sandbox, progress
            )
            layers.append(made)
            sources.append(Source(name, PACKAGES))
            apply(tree, store.entries(made, contents))
            whole = own_files.overlay(tree, inputs)
        else:
            whole = own_files.overlay(assemble.without_packages(inputs, tree), inputs)
        own = difference(whole, tree)
        if own or not inputs.lock.rows:
            layers.append(store.add(own, contents))
            sources.append(Source(name, FILES))
    code_digest.require_unchanged(state_keys.IMAGE_MODULE)
    built = built_images.of(inputs, tuple(layers), tuple(sources), folder)
    built_images.write(built)
    return built
