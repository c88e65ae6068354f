"""`invoke verify`: does a lock build what it promises, and is an image what its lock builds."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from dindkit.errors import DindkitError
from dindkit.formats import compare
from dindkit.formats.compare import Difference
from dindkit.image import build, seal
from dindkit.image import order as orders
from dindkit.image.build import Built
from dindkit.image.order import Order
from dindkit.packages.lock import Expected
from dindkit.progress import Progress
from dindkit.project import Project


class DifferentError(DindkitError):
    """An image is not what its lock says."""


def rebuild(project: Project, order: Order, progress: Progress) -> Built:
    """Build the ordered image from its lock, with empty state and cache, and hold it against the lock's ids.

    What was built is gone when this returns; its ids are what counts. Raises DifferentError where they are
    not the lock's, or the lock names none, and DindkitError as `build` does.
    """
    order = replace(order, frozen=True)
    wanted = promised(project, order)
    project.state.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=project.state, prefix="verify-") as name:
        fresh = replace(project, state=Path(name) / "state", cache=Path(name) / "cache")
        built = build.build(fresh, order, progress)
    said = problems(built, wanted)
    if said:
        raise DifferentError(
            f"{built.reference} is not what its lock says: {'; '.join(said)}.",
            "If recipe, files or programs were changed on purpose: invoke lock --seal",
        )
    return built


def against(project: Project, order: Order, archive: Path, progress: Progress) -> list[Difference]:
    """Return every difference between the image in `archive` and the one that the lock builds.

    Raises DindkitError where the image cannot be built, or `archive` is no image archive.
    """
    built = build.build(project, replace(order, frozen=True), progress)
    with progress.step("compare layers"):
        return compare.image(built.layout(), archive, project.state / "tmp")


def promised(project: Project, order: Order) -> Expected | None:
    """Return the identity that the committed lock of the ordered image promises."""
    return orders.resolve(project, order)[-1].lock.expected


def problems(built: Built, wanted: Expected | None) -> list[str]:
    """Return in words how `built` differs from what the lock expects; nothing where it does not."""
    if wanted is None:
        return ["the lock names no identity"]
    found = seal.expected(built)
    said = [
        f"layer {index} is {one}, the lock says {other}"
        for index, (one, other) in enumerate(zip(found.diff_ids, wanted.diff_ids, strict=False))
        if one != other
    ]
    if len(found.diff_ids) != len(wanted.diff_ids):
        said.append(f"it has {len(found.diff_ids)} layers, the lock says {len(wanted.diff_ids)}")
    if found.image_id != wanted.image_id:
        said.append(f"its id is {found.image_id}, the lock says {wanted.image_id}")
    return said
