"""An image's documents, and the one tar of them that both `docker load` and OCI tools read.

OCI image-spec: image-layout.md, manifest.md, config.md; Docker's manifest.json stands beside index.json, for
engines that know no pure OCI layout (https://github.com/moby/moby/issues/44162).
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from dindkit.errors import DamagedError
from dindkit.files import open_regular
from dindkit.formats import image_name
from dindkit.formats.contents import CHUNK
from dindkit.formats.entry import Entry
from dindkit.formats.layer import Layer
from dindkit.formats.tar_writer import BLOCK, Writer, header

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"

#: The files of an OCI image layout beside its blobs: image-layout.md.
MARK, INDEX_FILE = "oci-layout", "index.json"


@dataclass(frozen=True)
class Image:
    """An image as its two documents and its layers, lowest first."""

    config: Mapping[str, Any]
    manifest: Mapping[str, Any]
    layers: tuple[Layer, ...]
    tags: tuple[str, ...] = field(default=())

    @property
    def image_id(self) -> str:
        """The digest of the configuration, which Docker calls the image's id."""
        return digest(document(self.config))


def document(value: Any) -> bytes:
    """Render JSON so that equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest(data: bytes) -> str:
    """Return `sha256:…` of `data`."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def timestamp(epoch: int) -> str:
    """Render seconds since 1970 as RFC 3339."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _index(image: Image, manifest: bytes) -> dict[str, Any]:
    platform = {key: image.config[key] for key in ("architecture", "os", "variant") if key in image.config}
    described = {
        "mediaType": MANIFEST,
        "digest": digest(manifest),
        "size": len(manifest),
        "platform": platform,
    }
    tagged: list[dict[str, Any]] = []
    for name in map(image_name.parse, image.tags):
        notes = {"io.containerd.image.name": name.full}
        if name.tag not in (image_name.parse(tag).tag for tag in image.tags[: len(tagged)]):
            # Tools look for an image by this alone, and refuse two of the same.
            notes["org.opencontainers.image.ref.name"] = name.tag
        tagged.append({**described, "annotations": notes})
    return {"schemaVersion": 2, "mediaType": INDEX, "manifests": tagged or [described]}


def described(layers: Iterable[Layer]) -> list[dict[str, Any]]:
    """Return the descriptors of layers as manifests have them (OCI image-spec, descriptor.md)."""
    return [{"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size} for layer in layers]


def blob_path(name: str) -> str:
    """Return the path of the blob with the digest `name` in an OCI image layout."""
    return f"blobs/{name.replace(':', '/')}"


def stream(image: Image, blobs: Mapping[str, Path], left_out: Collection[Layer] = ()) -> Iterator[bytes]:
    """Yield the archive of `image` in chunks, without the layers `left_out`; `blobs` has each layer's file.

    Raises DamagedError before the end where a file is not the layer that it should be.
    """
    yield _documents(image)
    omitted = {layer.digest for layer in left_out}
    for layer in dict.fromkeys(image.layers):
        if layer.digest not in omitted:
            yield header(Entry(blob_path(layer.digest), "file", 0o644, size=layer.size))
            yield from checked(layer, blobs[layer.digest])
            yield bytes(-layer.size % BLOCK)
    yield bytes(2 * BLOCK)


def write(image: Image, blobs: Mapping[str, Path], out: IO[bytes]) -> None:
    """Write the archive of `image`; `blobs` has the file of each layer by digest. Raises DamagedError."""
    for chunk in stream(image, blobs):
        out.write(chunk)


def checked(layer: Layer, path: Path) -> Iterator[bytes]:
    """Yield the bytes of a layer in chunks. Raises DamagedError at the end where the file has others."""
    found = hashlib.sha256()
    with open_regular(path) as file:
        for _ in range(0, layer.size, CHUNK):
            chunk = file.read(CHUNK)
            found.update(chunk)
            yield chunk
        more = file.read(1)
    if more or f"sha256:{found.hexdigest()}" != layer.digest:
        raise DamagedError(path)


def _documents(image: Image) -> bytes:
    """Return all of an archive that comes before the layers."""
    config = document(image.config)
    docker = [
        {
            "Config": blob_path(digest(config)),
            "RepoTags": list(image.tags) or None,
            "Layers": [blob_path(layer.digest) for layer in image.layers],
        }
    ]
    layout = layout_files(image)
    first = {name: layout.pop(name) for name in (MARK, INDEX_FILE)}
    texts = {**first, "manifest.json": document(docker), **layout}
    out = io.BytesIO()
    writer = Writer(out)
    for folder in ("blobs", "blobs/sha256"):
        writer.add(Entry(folder, "dir", 0o755))
    for name, text in texts.items():
        writer.add(Entry(name, "file", 0o644, size=len(text)), [text])
    return out.getvalue()


def layout_files(image: Image) -> dict[str, bytes]:
    """Return what an OCI image layout of `image` has beside the blobs of its layers, by path."""
    config, manifest = document(image.config), document(image.manifest)
    return {
        MARK: document({"imageLayoutVersion": "1.0.0"}),
        INDEX_FILE: document(_index(image, manifest)),
        blob_path(digest(config)): config,
        blob_path(digest(manifest)): manifest,
    }
