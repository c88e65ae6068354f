"""The keys under which the state folder keeps images and packages' layers: the same inputs are built once.

A key is a hash of everything that decides the result and, as far as possible, of nothing else: where a file
of a recipe is edited, the key of the image changes, and that of its packages' layer does not.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import astuple
from typing import Any

from dindkit.image import build_inputs, code_digest, rootfs
from dindkit.image.build_inputs import BuildInputs
from dindkit.project import Project

#: The modules that make a layer of packages, and an image.
PACKAGES_MODULE = "dindkit.image.packages_layer"
IMAGE_MODULE = "dindkit.image.make_image"


def _digest(parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def image(project: Project, inputs: BuildInputs) -> str:
    """Return the key of a built image: the SHA-256 of its inputs and of our code."""
    return _digest(
        [build_inputs.revision(inputs), inputs.from_lock, code_digest.digest(project, IMAGE_MODULE)]
    )


def packages(project: Project, inputs: BuildInputs) -> str:
    """Return the key of the layer of packages, a SHA-256.

    It depends on the packages and why they are installed, on dpkg's path rules, on accounts, on the parent's
    tree, on the time, and on our code.
    """
    return _digest([_packages(inputs), code_digest.digest(project, PACKAGES_MODULE)])


def _packages(inputs: BuildInputs) -> str:
    recipe = inputs.recipe
    return _digest(
        [
            recipe.name,  # part of the path of the file with dpkg's rules
            inputs.lock.architecture,
            [astuple(row) for row in sorted(inputs.lock.rows)],
            inputs.requested,
            sorted(inputs.automatic),
            [*recipe.slim.exclude, *inputs.engine.exclude],
            recipe.slim.include,
            sorted(recipe.groups.items()),
            [(name, astuple(user)) for name, user in sorted(recipe.users.items())],
            inputs.epoch,
            _tree(inputs.parent) if inputs.parent else "",
        ]
    )


def _tree(inputs: BuildInputs) -> str:
    """Return the SHA-256 of what decides the whole tree of an image; its configuration does not."""
    recipe = inputs.recipe
    return _digest(
        [
            _packages(inputs),
            sorted(recipe.folders.items()),
            sorted(recipe.owners.items()),
            sorted(recipe.capabilities.items()),
            sorted({**recipe.links, **inputs.engine.links}.items()),
            inputs.sources,
            list(rootfs.listed(recipe)),
        ]
    )
