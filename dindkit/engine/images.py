"""Images of an engine, by the names that users give."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from docker.errors import APIError, DockerException, ImageNotFound, NullResource
from docker.models.images import Image

from dindkit import owner
from dindkit.engine.discover import Engine
from dindkit.errors import EngineError
from dindkit.progress import Progress


def archive_path(image: str) -> Path | None:
    """Return the path of the archive `image`, or None where it is a name for the engine to look up.

    Raises EngineError where it can only be a path and there is no file.
    """
    if not image:
        raise EngineError("The name of an image is empty.", "Give an archive, or a name like debian:13-slim.")
    path = Path(image)
    if path.is_file():
        return path
    if path.exists() or image.startswith(("/", "./", "../", "~")) or image.endswith(".tar"):
        why = "is no file" if path.exists() else "does not exist"
        raise EngineError(f"{image} {why}.", "Give an archive, or the name of an image of the engine.")
    return None


def find(engine: Engine, image: str) -> Image | None:
    """Return the image of that name or id, or None where `engine` has none.

    Raises EngineError where it is no name of an image.
    """
    try:
        return engine.client.images.get(image)
    except ImageNotFound:
        return None
    except (APIError, NullResource) as error:
        why = error.explanation if isinstance(error, APIError) else "it is empty"
        raise EngineError(
            f"{image!r} is no name of an image: {why}.", "Give an archive, or a name like debian:13-slim."
        ) from error


def pull(engine: Engine, image: str, progress: Progress) -> None:
    """Pull `image` unless `engine` has it; raises EngineError where it cannot be had."""
    if find(engine, image) is None:
        with progress.step(f"pull {image}"):
            try:
                engine.client.images.pull(image)
            except DockerException as error:
                cause = error.explanation if isinstance(error, APIError) else error
                raise EngineError(f"{image} cannot be pulled: {cause}.") from error


def save(
    engine: Engine, image: str, out: IO[bytes], advance: Callable[[float], None] = lambda _count: None
) -> None:
    """Write the archive of `image`, as `engine` exports it, to `out`. Raises EngineError."""
    found = find(engine, image)
    if found is None:
        raise EngineError(f"{engine.host} has no image {image}.", "Pull or load it first.")
    try:
        # With this name: otherwise an image with several names would keep only the first.
        for chunk in found.save(named=image if image in found.tags else True):
            out.write(chunk)
            advance(len(chunk))
        out.flush()
    except APIError as error:
        raise EngineError(f"{engine.host} could not save {image}: {error.explanation}.") from error


@contextmanager
def saved(engine: Engine, image: str, parent: Path, kind: str, progress: Progress) -> Iterator[Path]:
    """Yield a file with the archive of `image`, in a workspace of that `kind` in `parent`.

    Raises EngineError.
    """
    with owner.workspace(parent, kind, 0o700) as folder:
        path = folder / "image.tar"
        with progress.step(f"save {image}") as step, path.open("wb") as file:
            save(engine, image, file, step.advance)
        yield path
