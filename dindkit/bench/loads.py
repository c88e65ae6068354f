"""How an engine comes to have an image at first: ours, with its layers or by a load, and `docker load`'s."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from docker.errors import APIError, ImageNotFound

from dindkit.bench.table import DOCKER_LOAD, FRESH, LOAD, PLAIN_LOAD, Run
from dindkit.embedded import data_root, lifecycle
from dindkit.embedded.paths import Paths
from dindkit.embedded.running import running_engine
from dindkit.embedded.tree import extracted_tree
from dindkit.engine import discover, load
from dindkit.engine.discover import Engine
from dindkit.errors import EngineError
from dindkit.formats.contents import CHUNK
from dindkit.image import output as outputs
from dindkit.image.built import Built, opened
from dindkit.progress import Progress
from dindkit.project import Project


def measure(
    project: Project, built: Built, folder: Path, rounds: int, progress: Progress
) -> dict[str, list[Run]]:
    """Load the image `rounds` times into an engine that has none of its layers: our way, then Docker's.

    The third way is a file of plain layers that is neither made nor hashed meanwhile: what the engine alone
    takes. Where no engine answers, and root can boot the image itself, it is also measured how long such an
    engine takes to have its image where it has never run before. CPU and memory are this process's: the
    engine's own work is in the time alone. An image that was there before is there again at the end.
    """
    runs: dict[str, list[Run]] = {FRESH.name: [], LOAD.name: [], DOCKER_LOAD: [], PLAIN_LOAD: []}
    archive, plain = folder / "dind.tar", folder / "plain.tar"
    outputs.write(project, built, outputs.parse(str(archive)), progress)
    with opened(built) as layout, plain.open("wb") as file:
        file.writelines(layout.stream())
    if os.geteuid() == 0 and discover.find(project) is None and data_root.can_have_layers(built):
        fresh = replace(project, state=folder / "fresh")
        with progress.step("fresh engines", total=rounds) as step:
            for _ in range(rounds):
                runs[FRESH.name].append(_given(fresh, built))
                step.advance()
    with (
        running_engine(project, progress, built) as engine,
        progress.step("load rounds", total=rounds) as step,
    ):
        for _ in range(rounds):
            for name, once in (
                (LOAD.name, lambda: load.load(engine, built, Progress(quiet=True))),
                (DOCKER_LOAD, lambda: _docker_load(engine, archive)),
                (PLAIN_LOAD, lambda: _docker_load(engine, plain)),
            ):
                _forget(engine, built)
                runs[name].append(_timed(once))
            step.advance()
        load.load(engine, built, Progress(quiet=True))
    return runs


def _given(project: Project, built: Built) -> Run:
    """Let an engine that has never run begin with the layers of `built`, and load what is not layers."""
    quiet, paths = Progress(quiet=True), Paths(project)
    paths.folder.mkdir(parents=True)
    tree = extracted_tree(paths, built, quiet)
    linked = _timed(lambda: data_root.make(paths.data, built.store, built.layers, tree))
    engine = lifecycle.start(project, built, quiet)
    try:
        loaded = _timed(lambda: load.load(engine, built, quiet, known=built.layers))
    finally:
        lifecycle.stop(project, quiet, purge=True)
    return Run(linked.seconds + loaded.seconds, linked.cpu + loaded.cpu, max(linked.memory, loaded.memory))


def _docker_load(engine: Engine, archive: Path) -> None:
    with archive.open("rb") as file:
        chunks = iter(partial(file.read, CHUNK), b"")
        engine.client.images.load(chunks)  # type: ignore[arg-type] # requests streams it


def _forget(engine: Engine, built: Built) -> None:
    """Remove every image that begins with the image's first layer, so that the engine has none of its layers.

    Raises EngineError where a container has one.
    """
    first, client = built.layers[0].diff_id, engine.client
    try:
        for container in client.api.containers(all=True):
            # An image that was removed by force is there no longer, and its layers are.
            if _first_layer(engine, container["ImageID"]) in (None, first):
                raise EngineError(
                    f"The container {container['Id'][:12]} of {engine.host} has layers of ours.",
                    "A first load needs an engine without them: remove it, or stop that engine.",
                )
        for image in client.images.list(all=True):
            if _first_layer(engine, str(image.id)) == first:
                client.images.remove(str(image.id), force=True)
    except APIError as error:
        raise EngineError(f"{engine.host} does not remove an image of ours: {error.explanation}.") from error


def _first_layer(engine: Engine, image: str) -> str | None:
    """Return the diff_id of an image's first layer, empty where it has none; None where there is no image."""
    try:
        layers = engine.client.images.get(image).attrs["RootFS"].get("Layers")
    except ImageNotFound:
        return None
    return layers[0] if layers else ""


def _timed(once: Callable[[], None]) -> Run:
    start, cpu = time.monotonic(), time.process_time()
    once()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Run(time.monotonic() - start, time.process_time() - cpu, memory)
