"""Bring a built image into an engine, without sending what the engine has already."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import requests
from docker.errors import DockerException, ImageNotFound

from dindkit.engine import archive, discover
from dindkit.engine.archive import Archive
from dindkit.engine.discover import Engine
from dindkit.errors import EngineError
from dindkit.image.build import Built
from dindkit.progress import Progress, Step
from dindkit.project import Project


def offer(project: Project, built: Built, progress: Progress) -> None:
    """Load `built` into the engine that answers, or say where its archive lies if none does."""
    try:
        engine = discover.find(project)
    except EngineError as error:
        progress.warn(str(error))
        engine = None
    if engine is None:
        progress.note(f"No Docker engine answers. The image is in {built.archive}, for: docker load --input")
        return
    load(engine, built, progress)
    progress.note(f"{built.reference} is loaded into {engine.host} ({engine.origin}).")


def load(engine: Engine, built: Built, progress: Progress) -> None:
    """Make `built` available in `engine` under its reference; raises EngineError where the engine refuses."""
    image = archive.read(built.archive)
    if not _has(engine, image):
        left_out = _known_layers(engine, image)
        with progress.step(f"load {built.reference}", total=built.archive.stat().st_size) as step:
            try:
                _send(engine, image, left_out, step)
            except EngineError:
                if not left_out:
                    raise
                _send(engine, image, (), step)  # an engine that wants to see every layer all the same
    name, _, tag = built.reference.rpartition(":")
    identity = next(id_ for id_ in _ids(engine) if id_ in image.ids)
    engine.client.api.tag(identity, name, tag)


def _ids(engine: Engine) -> set[str]:
    return {image["Id"] for image in engine.client.api.images()}


def _has(engine: Engine, image: Archive) -> bool:
    return not image.ids.isdisjoint(_ids(engine))


def _known_layers(engine: Engine, image: Archive) -> set[str]:
    """Return the layer files that `engine` need not get: it looks a layer up before it reads the file.

    A layer is known by itself and all below it (the chain id of the OCI image-spec), so the layers that an
    image of the engine shares with ours count from the bottom up to the first that differs.
    Where moby looks: https://github.com/moby/moby/blob/v26.1.5/image/tarexport/load.go#L95-L113
    """
    known = 0
    for summary in engine.client.api.images():
        try:
            theirs = engine.client.images.get(summary["Id"]).attrs["RootFS"].get("Layers") or []
        except ImageNotFound:
            continue  # deleted since
        shared = 0
        for (_, diff_id), their_id in zip(image.layers, theirs, strict=False):
            if diff_id != their_id:
                break
            shared += 1
        known = max(known, shared)
    return {path for path, _ in image.layers[:known]}


def _send(engine: Engine, image: Archive, left_out: Collection[str], step: Step) -> None:
    def chunks() -> Iterator[bytes]:
        for chunk in archive.stream(image.path, left_out):
            step.advance(len(chunk))
            yield chunk

    try:
        engine.client.images.load(chunks())  # type: ignore[arg-type] # requests streams it
    except (DockerException, requests.RequestException) as error:
        raise EngineError(f"{engine.host} does not load the image: {error}.") from error
