"""Write into the locks the identity that a build from them has."""

from __future__ import annotations

from dataclasses import replace

from dindkit.image import build, locking
from dindkit.image import order as orders
from dindkit.image import recipe as recipes
from dindkit.image.build import Built
from dindkit.image.order import Order
from dindkit.packages import lock as locks
from dindkit.packages.lock import Expected
from dindkit.progress import Progress
from dindkit.project import Project


def expected(built: Built) -> Expected:
    """Return the identity of `built`."""
    return Expected(built.image_id, tuple(layer.diff_id for layer in built.layers))


def seal(project: Project, order: Order, progress: Progress) -> Built:
    """Build the ordered image and its ancestors, and write their identities into their locks.

    Packages stay as they are. Raises DindkitError; the locks are as they were then.
    """
    chain = orders.resolve(project, order, progress)
    line = recipes.line(project, order.image)
    built = [build.build(project, replace(order, image=one.name), progress) for one in line]
    old = [ingredients.lock for ingredients in chain]
    new = [replace(lock, expected=expected(image)) for lock, image in zip(old, built, strict=True)]
    for index, lock in enumerate(locking.tie(new)):
        path = orders.lock_path(project, line, index, order, chain[-1].choice)
        if lock != old[index]:
            locks.write(lock, path)
            progress.note(f"{path.name} of {lock.image}: {built[index].image_id}")
    return built[-1]
