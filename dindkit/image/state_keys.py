"""The names under which the state folder keeps what was built: the same inputs are never built twice.

A name is made from all that decides the result and, as far as can be, from nothing else: an edited file of a
recipe moves the name of the image, and not that of its packages' layer.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import astuple
from typing import Any

from dindkit.image import build_inputs, code_digest
from dindkit.image.build_inputs import BuildInputs
from dindkit.project import Project

#: The modules that make a layer of packages, and an image.
PACKAGES_MODULE = "dindkit.image.packages_layer"
IMAGE_MODULE = "dindkit.image.make_image"


def _digest(parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def image(project: Project, inputs: BuildInputs) -> str:
    """Return the SHA-256 under which a built image is kept: all that it is made from, and the programs."""
    return _digest(
        [build_inputs.revision(inputs), inputs.from_lock, code_digest.digest(project, IMAGE_MODULE)]
    )


def packages(project: Project, inputs: BuildInputs) -> str:
    """Return the SHA-256 under which the layer of `inputs`'s packages is kept.

    It depends on the packages and what is asked of them, on dpkg's path rules, on accounts, on the tree
    below, on the time, and on the programs.
    """
    return _digest([_packages(inputs), code_digest.digest(project, PACKAGES_MODULE)])


def _packages(inputs: BuildInputs) -> str:
    recipe = inputs.recipe
    return _digest(
        [
            recipe.name,  # in the path of dpkg's rules
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
            sorted({**recipe.links, **inputs.engine.links}.items()),
            inputs.sources,
            list(build_inputs.files(recipe)),
        ]
    )
