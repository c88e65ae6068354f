"""A built image in the state folder: its documents, its bill of materials, and the layers that it shares."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dindkit.errors import DamagedError
from dindkit.files import replacing
from dindkit.formats.layer import Layer
from dindkit.project import Project

if TYPE_CHECKING:
    from dindkit.formats.image_layout import Layout
    from dindkit.formats.layer_store import LayerStore
    from dindkit.formats.oci import Image

#: Names of the files in an image's folder.
BUILT, CONFIG, MANIFEST, SBOM, ARCHIVE = (
    "built.json",
    "config.json",
    "manifest.json",
    "sbom.spdx.json",
    "image.tar",
)

#: What a layer holds: what the packages of a recipe have made, or the recipe's own files.
PACKAGES, FILES = "packages", "files"


@dataclass(frozen=True)
class Source:
    """What a layer was made from: a recipe, and which of its two parts (PACKAGES or FILES)."""

    image: str
    part: str

    def __str__(self) -> str:
        return f"{self.image} {self.part}"


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
    #: Lowest first; plain tars in the store of the state folder.
    layers: tuple[Layer, ...]
    #: What each of `layers` was made from.
    sources: tuple[Source, ...]

    @property
    def size(self) -> int:
        """Bytes of all layers, uncompressed."""
        return sum(layer.size for layer in self.layers)

    @property
    def sbom(self) -> Path:
        """The SPDX 2.3 document of the image, JSON."""
        return self.folder / SBOM

    @property
    def store(self) -> LayerStore:
        """Where the layers are kept."""
        from dindkit.formats.layer_store import LayerStore

        return LayerStore(self.folder.parents[1] / "layers")

    @property
    def archive(self) -> Path:
        """A tar that `docker load` and OCI tools read, made when first asked for. Raises DamagedError."""
        path = self.folder / ARCHIVE
        if not path.is_file():
            with replacing(path) as file:
                for chunk in self.layout().stream():
                    file.write(chunk)
        return path

    def layout(self) -> Layout:
        """Return the image's documents and layers. Raises DamagedError where a document is not its own."""
        from dindkit.formats.image_layout import Layout
        from dindkit.formats.oci import Image

        config, manifest = (
            json.loads((self.folder / name).read_text("utf-8")) for name in (CONFIG, MANIFEST)
        )
        image = Image(config, manifest, self.layers, (self.reference,))
        if image.image_id != self.image_id:
            raise DamagedError(self.folder / CONFIG)
        return Layout(image, {layer.digest: self.store.path(layer.diff_id) for layer in self.layers})

    def compressed(self) -> Layout:
        """Return the image as it leaves this machine, its layers compressed. Raises DamagedError.

        Compressing takes long and is done once for each layer. The image's id stays what it was.
        """
        from dindkit.formats.image_layout import Layout
        from dindkit.formats.oci import described

        plain = self.layout().image
        packed = [self.store.compressed(layer) for layer in self.layers]
        layers = tuple(layer for layer, _ in packed)
        manifest = {**plain.manifest, "layers": described(layers)}
        image = type(plain)(plain.config, manifest, layers, plain.tags)
        return Layout(image, {layer.digest: path for layer, path in packed})


def folder(project: Project, name: str, key: str) -> Path:
    """Return where the image `name` with this key is kept, or would be."""
    return project.state / "images" / f"{name}-{key[:32]}"


def read(folder: Path) -> Built | None:
    """Return the image kept in `folder`, or None where there is none, or it lacks a layer."""
    try:
        data = json.loads((folder / BUILT).read_text("utf-8"))
        layers = tuple(Layer(**layer) for layer in data.pop("layers"))
        sources = tuple(Source(**source) for source in data.pop("sources"))
        built = Built(folder=folder, layers=layers, sources=sources, **data)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    whole = all(built.store.holds(layer) for layer in layers)
    return built if whole and all((folder / name).is_file() for name in (CONFIG, MANIFEST, SBOM)) else None


def write(built: Built, image: Image, sbom: bytes) -> None:
    """Write what `read` reads; the layers must be in the store by then."""
    from dindkit.formats.oci import document

    data = asdict(built)
    del data["folder"]
    (built.folder / ARCHIVE).unlink(missing_ok=True)
    for name, text in (
        (CONFIG, document(image.config)),
        (MANIFEST, document(image.manifest)),
        (SBOM, sbom),
        (BUILT, json.dumps(data, indent=1).encode()),
    ):
        with replacing(built.folder / name) as file:
            file.write(text)
