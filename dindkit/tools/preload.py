"""`invoke preload`: put images into a volume, for a nested daemon that has it as its data root."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Sequence
from pathlib import Path

from docker.errors import APIError, DockerException, NotFound
from docker.types import Mount

from dindkit import leftovers, owner
from dindkit.embedded.running import running_engine
from dindkit.engine import load
from dindkit.engine.discover import Engine
from dindkit.errors import EngineError
from dindkit.image.build import Order, build
from dindkit.progress import Progress
from dindkit.project import Project

#: What leftovers know by this word.
KIND = "preload"
LOAD = 'for archive in /preload/*; do docker load --quiet --input "$archive" || exit 1; done'


def run(project: Project, progress: Progress, volume: str, images: Sequence[str]) -> list[str]:
    """Load `images` into the data root in `volume` of the engine, which is made if need be.

    Each is the path of an image archive, or a reference that the engine has or can pull. Returns what the
    nested daemon says of each. Raises EngineError where one cannot be had or loaded, or the volume is in use.
    """
    dind = build(project, Order(), progress)
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(running_engine(project, progress, dind))
        leftovers.sweep(engine.client, progress, KIND)
        folder = stack.enter_context(owner.workspace(project.state, KIND))
        load.load(engine, dind, progress)
        archives = [
            _archive(engine, image, folder / f"{number}.tar", progress) for number, image in enumerate(images)
        ]
        with progress.step(f"load into {volume}"):
            return _load(engine, dind.reference, volume, archives)


def _archive(engine: Engine, image: str, saved: Path, progress: Progress) -> Path:
    """Return an archive of `image`: the file of that name, or what the engine writes to `saved`."""
    if Path(image).is_file():
        return Path(image).absolute()
    load.pull(engine, image, progress)
    with saved.open("wb") as file:
        found = engine.client.images.get(image)
        # By the name that was asked for: an image with several keeps only the first otherwise.
        for chunk in found.save(named=image if image in found.tags else True):
            file.write(chunk)
    return saved


def _load(engine: Engine, image: str, volume: str, archives: Sequence[Path]) -> list[str]:
    mounts = [
        Mount(f"/preload/{number:03}.tar", str(archive), type="bind", read_only=True)
        for number, archive in enumerate(archives)
    ]
    container = engine.client.containers.create(
        image,
        ["with-dockerd", "sh", "-c", LOAD],
        name=f"dindkit-preload-{secrets.token_hex(3)}",
        labels=leftovers.labels(KIND),
        mounts=[*mounts, Mount("/var/lib/docker", volume)],
        privileged=True,
    )
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
