"""`invoke preload`: put images into a volume, for a nested daemon that has it as its data root."""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

from docker.errors import APIError, DockerException, NotFound
from docker.types import Mount

from dindkit import leftovers, owner
from dindkit.embedded.running import running_engine
from dindkit.engine import images as engine_images
from dindkit.engine import load
from dindkit.engine.discover import Engine
from dindkit.errors import EngineError
from dindkit.image.build import BuildOptions, build
from dindkit.progress import Progress
from dindkit.project import Project

#: The name of a volume. An engine would take a path for a folder of its machine.
VOLUME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
#: What this module makes in an engine has this kind in its label: see leftovers.
KIND = "preload"
LOAD = 'for archive in /preload/*; do docker load --quiet --input "$archive" || exit 1; done'


def run(project: Project, progress: Progress, volume: str, images: Sequence[str]) -> list[str]:
    """Load `images` into the data root in `volume` of the engine, which is made if need be.

    Each is the path of an image archive, or a reference that the engine has or can pull. Returns the nested
    daemon's message for each. Raises EngineError where one is not available or cannot be loaded, or the
    volume is in use; a volume made for this is removed then.
    """
    if not VOLUME.fullmatch(volume):
        raise EngineError(
            f"{volume!r} is no name of a volume.",
            "Give two or more letters, digits, dots, dashes and underscores; no path.",
        )
    if not images:
        raise EngineError(f"No image is named to load into {volume}.", "Name one or more: --image ARCHIVE")
    for image in images:
        engine_images.archive_path(image)  # checked before anything is built or booted
    dind = build(project, BuildOptions(), progress)
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(running_engine(project, progress, dind))
        leftovers.sweep(engine.client, progress, KIND)
        folder = stack.enter_context(owner.workspace(project.state, KIND))
        load.load(engine, dind, progress)
        archives = [
            _archive(engine, image, folder / f"{number}.tar", progress) for number, image in enumerate(images)
        ]
        with progress.step(f"load into {volume}"), _kept_if_loaded(engine, volume):
            return _load(engine, dind.reference, volume, archives)


@contextlib.contextmanager
def _kept_if_loaded(engine: Engine, volume: str) -> Iterator[None]:
    """If the block fails, remove `volume`, unless it was there before."""
    there = any(one.name == volume for one in engine.client.volumes.list())
    try:
        yield
    except BaseException:
        if not there:
            with contextlib.suppress(NotFound):
                engine.client.volumes.get(volume).remove(force=True)
        raise


def _archive(engine: Engine, image: str, saved: Path, progress: Progress) -> Path:
    """Return an archive of `image`: the file of that name, or what the engine writes to `saved`."""
    path = engine_images.archive_path(image)
    if path:
        return path.absolute()
    engine_images.pull(engine, image, progress)
    with saved.open("wb") as file:
        engine_images.save(engine, image, file)
    return saved


def _load(engine: Engine, image: str, volume: str, archives: Sequence[Path]) -> list[str]:
    mounts = [
        Mount(f"/preload/{number:03}.tar", str(archive), type="bind", read_only=True)
        for number, archive in enumerate(archives)
    ]
    try:
        container = engine.client.containers.create(
            image,
            ["with-dockerd", "sh", "-c", LOAD],
            name=f"dindkit-preload-{secrets.token_hex(3)}",
            labels=leftovers.labels(KIND),
            mounts=[*mounts, Mount("/var/lib/docker", volume)],
            privileged=True,
        )
    except APIError as error:
        raise EngineError(f"The images cannot be loaded: {error.explanation}.") from error
    try:
        container.start()
        code = container.wait()["StatusCode"]
        said = container.logs().decode(errors="replace").splitlines()
    except DockerException as error:
        cause = error.explanation if isinstance(error, APIError) else error
        raise EngineError(f"The images cannot be loaded: {cause}.") from error
    finally:
        with contextlib.suppress(NotFound):
            container.remove(force=True, v=True)
    if code:
        raise EngineError(f"The images cannot be loaded: {said[-1] if said else 'no reason is given'}")
    return said
