"""`invoke verify`: rebuild from the lock and compare, or hold an image that exists against it."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from docker.errors import APIError, ImageNotFound

from dindkit.engine import discover
from dindkit.errors import EngineError
from dindkit.image import verify as image_verify
from dindkit.image.order import Order
from dindkit.image.verify import DifferentError
from dindkit.printing import result, visible
from dindkit.progress import Progress
from dindkit.project import Project


def run(project: Project, order: Order, progress: Progress, out: TextIO, *, image: str = "") -> None:
    """Compare the ordered image with its lock, and print on `out` what was found.

    Without `image` it is rebuilt in an empty cache and its ids are compared. `image` is an archive's path, or
    a reference that a running engine knows: every path that differs is printed, layer by layer. Raises
    DifferentError where anything differs, EngineError where `image` cannot be had.
    """
    if not image:
        built = image_verify.rebuild(project, order, progress)
        result(f"equal: {built.reference} {built.image_id}", out)
        return
    with _archive(project, image, progress) as archive:
        differences = image_verify.against(project, order, archive, progress)
    for difference in differences:
        result(visible(str(difference)), out)
    if differences:
        count = "1 place" if len(differences) == 1 else f"{len(differences)} places"
        raise DifferentError(f"{image} differs from what its lock builds in {count}.")
    result(f"equal: {image}", out)


@contextlib.contextmanager
def _archive(project: Project, image: str, progress: Progress) -> Iterator[Path]:
    """Yield the archive of `image`: the file of that name, or what an engine saves."""
    if Path(image).is_file():
        yield Path(image)
        return
    engine = discover.find(project)
    if engine is None:
        raise EngineError(
            f"{image} is no file, and no Docker engine answers that could know it.",
            "Give the path of an archive, or start an engine.",
        )
    folder = project.state / "tmp"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix="verify-", suffix=".tar") as file:
        with progress.step(f"save {image}") as step:
            try:
                for chunk in engine.client.images.get(image).save(named=True):
                    file.write(chunk)
                    step.advance(len(chunk))
            except ImageNotFound:
                raise EngineError(f"{engine.host} has no image {image}.", "Pull or load it first.") from None
            except APIError as error:
                raise EngineError(f"{engine.host} could not save {image}: {error.explanation}.") from error
        file.flush()
        yield Path(file.name)
