"""A built image in the state folder. built.json lists its layers, which lie in a store beside it.

Neither is trusted.

When an image is looked up, its documents are made anew from recipe and lock, and must have the id in
built.json; layers are hashed as they are read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from dindkit.errors import ArchiveError, DamagedError, DindkitError
from dindkit.files import open_regular, replacing
from dindkit.formats.layer import Layer
from dindkit.image.build_inputs import BuildInputs
from dindkit.image.image_config import Source, describe_image
from dindkit.project import Project

if TYPE_CHECKING:
    from dindkit.formats.image_layout import Layout
    from dindkit.formats.layer_store import LayerStore


#: Bytes of built.json.
LARGEST_DESCRIPTION = 1_000_000


@dataclass(frozen=True)
class Built:
    """An image in the state folder."""

    #: `dindkit/dind:trixie`
    reference: str
    #: `sha256:…` of the configuration
    image_id: str
    folder: Path
    #: In the whole image, parents included.
    packages: int
    from_lock: bool
    #: Lowest first; plain tars in the store.
    layers: tuple[Layer, ...]
    #: What each of `layers` was made from.
    sources: tuple[Source, ...]
    inputs: BuildInputs = field(repr=False, compare=False)

    @property
    def size(self) -> int:
        """Bytes of all layers, uncompressed."""
        return sum(layer.size for layer in self.layers)

    @property
    def store(self) -> LayerStore:
        """The store that holds the layers."""
        from dindkit.formats.layer_store import LayerStore

        return LayerStore(self.folder.parents[1] / "layers")

    @property
    def archive(self) -> Path:
        """A tar for `docker load` and OCI tools; it is written if it is missing. Raises DamagedError."""
        path = self.folder / "image.tar"
        with opened(self) as layout:
            if not (path.is_file() and _holds(path, layout.stream())):
                with replacing(path) as file:
                    for chunk in layout.stream():
                        file.write(chunk)
        return path


def _holds(path: Path, chunks: Iterator[bytes]) -> bool:
    with open_regular(path) as file:
        return all(file.read(len(chunk)) == chunk for chunk in chain(chunks, [b""])) and not file.read(1)


def of(inputs: BuildInputs, layers: tuple[Layer, ...], sources: tuple[Source, ...], folder: Path) -> Built:
    """Return the image of `inputs` with these `layers`, lowest first, kept in `folder`."""
    return Built(
        reference=inputs.tag,
        image_id=describe_image(inputs, layers, sources).image_id,
        folder=folder,
        packages=len(inputs.rows),
        from_lock=inputs.from_lock,
        layers=layers,
        sources=sources,
        inputs=inputs,
    )


def folder(project: Project, name: str, key: str) -> Path:
    """Return the folder for the image `name` with this key, whether it is there or not."""
    return project.state / "images" / f"{name}-{key[:32]}"


def read(folder: Path, inputs: BuildInputs) -> Built | None:
    """Return the image of `inputs` that is kept in `folder`, or None where it or a layer is missing.

    Its documents are made from `inputs` and the layers that built.json names. Raises ArchiveError where their
    id is not the one in built.json.
    """
    try:
        with open_regular(folder / "built.json") as file:
            kept = json.loads(file.read(LARGEST_DESCRIPTION))
        layers = tuple(Layer(**layer) for layer in kept["layers"])
        sources = tuple(Source(**source) for source in kept["sources"])
        built = of(inputs, layers, sources, folder)
        if not all(built.store.holds(layer) for layer in layers):
            return None
    except (FileNotFoundError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    if kept["image_id"] != built.image_id:
        raise DamagedError(folder / "built.json")
    return built


def about(built: Built) -> dict[str, str]:
    """Return what `list` says of an image whose inputs are no longer there; nothing else reads it."""
    lock = built.inputs.lock
    return {
        "reference": built.reference,
        "suite": lock.suite,
        "architecture": lock.architecture,
        "engine": built.inputs.choice,
    }


def write(built: Built) -> None:
    """Write what `read` reads; the layers must be in the store by then."""
    kept = {
        "image_id": built.image_id,
        "about": about(built),
        "layers": [asdict(layer) for layer in built.layers],
        "sources": [asdict(source) for source in built.sources],
    }
    with replacing(built.folder / "built.json") as file:
        file.write(json.dumps(kept, indent=1).encode())


@contextmanager
def opened(built: Built) -> Iterator[Layout]:
    """Open the image; in the block its layers can be read, and are hashed as they are.

    Raises DamagedError where a layer has changed; it is deleted then, and the next build makes it anew.
    """
    from dindkit.formats.image_layout import Layout

    image = describe_image(built.inputs, built.layers, built.sources)
    if image.image_id != built.image_id:
        raise ArchiveError(f"{built.reference} is not the image that was built.", "Run: invoke build")
    with forgetting_damage():
        yield Layout(image, {layer.digest: built.store.path(layer.diff_id) for layer in built.layers})


@contextmanager
def compressed(built: Built, level: int | None = None) -> Iterator[Layout]:
    """Open the image with compressed layers, as registries and archives get it; else as `opened` does.

    Compressing takes long, and is done once for each layer and zstd `level` (default: LEVEL). The image's id
    does not change; the manifest's digest depends on the level.
    """
    from dindkit.formats.image_layout import Layout
    from dindkit.formats.layer import LEVEL

    with forgetting_damage():
        packed = [built.store.compressed(layer, LEVEL if level is None else level) for layer in built.layers]
        image = describe_image(built.inputs, [layer for layer, _ in packed], built.sources)
        yield Layout(image, {layer.digest: path for layer, path in packed})


def check_level(level: int | None) -> None:
    """Raise DindkitError where `level` is not one of LEVELS."""
    from dindkit.formats.layer import LEVEL, LEVELS

    if level is not None and level not in LEVELS:
        hint = f"Known: {LEVELS[0]} to {LEVELS[-1]}; without --level it is {LEVEL}."
        raise DindkitError(f"Layers cannot be compressed with level {level}.", hint)


@contextmanager
def forgetting_damage() -> Iterator[None]:
    """On a DamagedError in the block delete the damaged file, so that the next build makes it anew."""
    try:
        yield
    except DamagedError as error:
        error.path.unlink(missing_ok=True)
        raise
