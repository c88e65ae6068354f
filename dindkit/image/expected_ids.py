"""Compare the ids of a built image with those that `lock --seal` has written into its lock."""

from __future__ import annotations

from dindkit.errors import DindkitError
from dindkit.image.build_inputs import BuildInputs
from dindkit.image.built import Built
from dindkit.packages.lock import Expected
from dindkit.progress import Progress

ON_PURPOSE = "If recipe, files or programs were changed on purpose: {}"
OTHERWISE = "If not, something else was built or put there: invoke clean, and build again."


class DifferentError(DindkitError):
    """An image is not what its lock says."""


def ids_of(built: Built) -> Expected:
    """Return the ids of `built`, as a lock is sealed with them."""
    return Expected(built.image_id, tuple(layer.diff_id for layer in built.layers))


def deviations(found: Expected, wanted: Expected) -> list[str]:
    """Return in words how the ids `found` differ from those `wanted`; an empty list where they are equal."""
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


def check(built: Built, progress: Progress, *, frozen: bool) -> None:
    """Compare the ids of `built` with those of its lock, and warn where they differ.

    Where the lock has no ids, a note says so, and only the parents' layers are compared with the ids in their
    locks. An image that was solved anew is not checked: its build has warned. With `frozen`, raises
    DifferentError instead of warning.
    """
    if not built.from_lock:
        return
    lock, found = built.inputs.lock, ids_of(built)
    seal = built.inputs.recipe.command("lock --seal")
    wanted = lock.expected
    if wanted is None:
        progress.note_once(f"The lock of {lock.image} names no ids to compare with. To write them: {seal}")
        below = _of_parents(built.inputs)
        wanted = Expected(found.image_id, (*below, *found.diff_ids[len(below) :]))
    said = deviations(found, wanted)
    if not said:
        return
    cause = f"{built.reference} is not the image that its lock promises: {'; '.join(said)}."
    if frozen:
        raise DifferentError(cause, f"{ON_PURPOSE.format(seal)}. {OTHERWISE}")
    progress.warn(f"{cause} {ON_PURPOSE.format(seal)}. {OTHERWISE}")


def _of_parents(inputs: BuildInputs) -> tuple[str, ...]:
    """Return the diff_ids in the lock of the nearest parent that has ids; none where no parent has."""
    parent = inputs.parent
    while parent is not None and parent.lock.expected is None:
        parent = parent.parent
    return parent.lock.expected.diff_ids if parent and parent.lock.expected else ()
