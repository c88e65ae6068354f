"""`invoke verify`: rebuild an image and compare it with its lock, or compare an existing one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from dindkit.engine import discover, images
from dindkit.errors import EngineError
from dindkit.image import rebuild
from dindkit.image.build_options import BuildOptions, resolve
from dindkit.image.expected_ids import DifferentError
from dindkit.json_document import plain
from dindkit.printing import result, visible
from dindkit.progress import Progress
from dindkit.project import Project


def run(
    project: Project,
    options: BuildOptions,
    progress: Progress,
    out: TextIO,
    *,
    image: str = "",
    found: dict[str, Any] | None = None,
) -> None:
    """Compare the image with its lock, print on `out` what was found, and put it into `found`: verify-1.json.

    Without `image` it is rebuilt in an empty cache and its ids are compared. `image` is an archive's path, or
    a reference that a running engine knows and saves: its configuration and layers are hashed and compared
    with the lock's ids, and every path that differs is printed, layer by layer. Nothing from the state folder
    is trusted. Raises DifferentError where anything differs, EngineError where `image` cannot be had.
    """
    found = {} if found is None else found
    if not image:
        built = rebuild.rebuild(project, options, progress)
        found |= {"image": built.reference, "image_id": built.image_id, "equal": True, "differences": []}
        result(f"equal: {built.reference} {built.image_id}", out)
        return
    with _archive(project, image, progress) as archive:
        differences = rebuild.against(project, options, archive, progress)
    wanted = resolve(project, options)[-1].lock.expected
    found |= {
        "image": image,
        "image_id": wanted.image_id if wanted and not differences else None,
        "equal": not differences,
        "differences": plain(differences),
    }
    for difference in differences:
        result(visible(str(difference)), out)
    if differences:
        count = "1 place" if len(differences) == 1 else f"{len(differences)} places"
        raise DifferentError(f"{image} differs from what its lock builds in {count}.")
    result(f"equal: {image}", out)


@contextlib.contextmanager
def _archive(project: Project, image: str, progress: Progress) -> Iterator[Path]:
    """Yield the archive of `image`: the file of that name, or what an engine saves."""
    path = images.archive_path(image)
    if path:
        yield path
        return
    engine = discover.find(project)
    if engine is None:
        raise EngineError(
            f"{image} is no file, and no Docker engine answers that could know it.",
            "Give the path of an archive, or start an engine.",
        )
    with images.saved(engine, image, project.state / "tmp", "verify", progress) as path:
        yield path
