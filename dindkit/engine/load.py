"""Load a built image into an engine, without sending layers that it already has."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import requests
from docker.errors import DockerException, ImageNotFound

from dindkit.engine.discover import Engine
from dindkit.errors import EngineError
from dindkit.formats.image_layout import Layout
from dindkit.formats.layer import Layer
from dindkit.image.built import Built, opened
from dindkit.progress import Progress, Step, size


class OtherArchitectureError(EngineError):
    """The engine cannot run programs of the image's architecture."""


def load(
    engine: Engine,
    built: Built,
    progress: Progress,
    names: Sequence[str] = (),
    known: Collection[Layer] = (),
) -> None:
    """Load `built` into `engine` under its reference and `names`, which other images may have had before.

    The engine has the layers `known` already, and those of its images. Layers are hashed as they are sent.
    Raises EngineError where the engine refuses, OtherArchitectureError where its machine is another than the
    image's, and DamagedError where a layer is not what was built.
    """
    with opened(built) as layout:
        _check_architecture(engine, layout, built.reference)
        if not layout.ids & _ids(engine):
            left_out = known or _known_layers(engine, layout)
            missing = sum(layer.size for layer in layout.image.layers if layer not in left_out)
            with progress.step(f"load {built.reference}", total=missing) as step:
                try:
                    _send(engine, layout, left_out, step)
                except EngineError:
                    if not left_out:
                        raise
                    _send(engine, layout, (), step)  # this engine wants every layer nevertheless
                step.detail = size(missing)
        image_id = min(layout.ids & _ids(engine))
        for reference in (built.reference, *names):
            name, _, tag = reference.rpartition(":")
            engine.client.api.tag(image_id, name, tag)


def _check_architecture(engine: Engine, layout: Layout, reference: str) -> None:
    """Raise OtherArchitectureError unless the engine's machine is the image's; both have Go's names."""
    wanted, found = layout.image.config["architecture"], engine.client.version().get("Arch")
    if wanted != found:
        raise OtherArchitectureError(
            f"{reference} is for {wanted}, and {engine.host} runs {found}.",
            "Build for the engine's architecture, or write a file: invoke build --output FILE",
        )


def _ids(engine: Engine) -> set[str]:
    return {image["Id"] for image in engine.client.api.images()}


def _known_layers(engine: Engine, layout: Layout) -> tuple[Layer, ...]:
    """Return the layers that `engine` already has: it looks a layer up before it reads its file.

    An engine knows a layer by its chain id (OCI image-spec), a hash of it and all below it. So a layer counts
    only where an image of the engine has it and all layers below it. Where moby looks:
    https://github.com/moby/moby/blob/v26.1.5/image/tarexport/load.go#L95-L113
    """
    layers = layout.image.layers
    known = 0
    for summary in engine.client.api.images():
        try:
            theirs = engine.client.images.get(summary["Id"]).attrs["RootFS"].get("Layers") or []
        except ImageNotFound:
            continue  # deleted in the meantime
        shared = 0
        for layer, their_id in zip(layers, theirs, strict=False):
            if layer.diff_id != their_id:
                break
            shared += 1
        known = max(known, shared)
    return layers[:known]


def _send(engine: Engine, layout: Layout, left_out: Collection[Layer], step: Step) -> None:
    def chunks() -> Iterator[bytes]:
        for chunk in layout.stream(left_out):
            step.advance(len(chunk))
            yield chunk

    try:
        engine.client.images.load(chunks())  # type: ignore[arg-type] # requests streams it
    except (DockerException, requests.RequestException) as error:
        raise EngineError(f"{engine.host} does not load the image: {error}.") from error
