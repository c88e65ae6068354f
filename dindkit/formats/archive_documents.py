"""The documents of an image archive: the one image that manifest.json and index.json name.

OCI image-spec: image-layout.md, image-index.md, manifest.md, config.md.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from dindkit.errors import ArchiveError
from dindkit.formats import layer as layers
from dindkit.formats.archive_files import ArchiveFiles
from dindkit.formats.decompression import suffix_of
from dindkit.formats.layer import Layer
from dindkit.formats.oci import INDEX, MANIFEST, Image, blob_path, digest

#: Layers of one image. Docker takes some 125, and a mount in Linux 500 at most.
MAX_LAYERS = 512

#: Of the images in an index an engine takes the one for its own architecture; these are ours.
ARCHITECTURES = {"amd64", "arm64"}

#: How OCI and Docker call what is an index, and what a manifest.
KINDS = {
    INDEX: "index",
    "application/vnd.docker.distribution.manifest.list.v2+json": "index",
    MANIFEST: "manifest",
    "application/vnd.docker.distribution.manifest.v2+json": "manifest",
}

#: The paths of an image's configuration and of its layers, lowest first.
_Blobs = tuple[str, ...]


def _folded(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a JSON object whose names are in lower case: to engines `layers` and `Layers` are one name.

    Raises ValueError where a name is there twice. This is the rule of Go's encoding/json, Unmarshal.
    """
    found = {name.casefold(): value for name, value in pairs}
    if len(found) != len(pairs):
        raise layers.ShapeError("a name is twice in one object")
    return found


class Documents:
    """What the documents of an archive say of the one image in it.

    Where both manifest.json and index.json are there they name the same image: some engines read the first,
    some the second.
    """

    def __init__(self, files: ArchiveFiles) -> None:
        """Read the documents. Raises ArchiveError, and what `layers.bad_bytes` names."""
        self._files = files
        #: The ids by which an engine may know the image: the digest of its configuration, or of a manifest or
        #: an index where the engine has containerd's image store.
        self.ids: set[str] = set()
        #: The digest of the configuration's bytes.
        self.image_id = ""
        #: The path of each layer, by diff_id.
        self.blob_paths: dict[str, str] = {}
        self.image = self._image()

    def _saved(self) -> dict[_Blobs, tuple[str, ...]]:
        """Return the tags of each image in manifest.json."""
        found: dict[_Blobs, tuple[str, ...]] = {}
        if "manifest.json" in self._files:
            for entry in json.loads(self._files.read("manifest.json"), object_pairs_hook=_folded):
                names = (entry["config"], *entry["layers"])
                if not all(isinstance(name, str) for name in names):
                    raise layers.ShapeError("manifest.json names files by what is no text")
                blobs = tuple(map(self._files.target, names))
                found[blobs] = (*found.get(blobs, ()), *(entry.get("repotags") or ()))
        return found

    def _indexed(
        self, path: str, others: Collection[str], descriptor: Mapping[str, Any] = MappingProxyType({})
    ) -> Iterator[tuple[_Blobs, dict[str, Any]]]:
        """Yield each image that the index or manifest at `path` leads to, with its manifest.

        An engine with containerd's image store saves a pulled index unchanged. It lists images for `others`,
        architectures that this engine never takes and whose blobs may be missing.
        """
        text = self._files.read(path)
        self._files.hold_size(path, descriptor)
        found = json.loads(text, object_pairs_hook=_folded)
        self._hold_kind(path, found, descriptor)
        for entry in found.get("manifests") or ():
            if path != "index.json" and (entry.get("platform") or {}).get("architecture") in others:
                continue
            if entry["digest"] not in self.ids:
                self.ids.add(entry["digest"])
                yield from self._indexed(blob_path(entry["digest"]), others, entry)
        if "config" in found:
            described = (found["config"], *found["layers"])
            yield tuple(blob_path(one["digest"]) for one in described), json.loads(text)

    def _hold_kind(self, path: str, found: Mapping[str, Any], descriptor: Mapping[str, Any]) -> None:
        """Refuse a document that some tools take for a manifest and others for an index (CVE-2021-41190)."""
        is_index = "manifests" in found
        if is_index and ("config" in found or "layers" in found):
            raise ArchiveError(
                f"{self._files.path} holds {path!r}, which is an index and a manifest at once."
            )
        kind = "index" if is_index else "manifest"
        for said in (descriptor.get("mediatype"), found.get("mediatype")):
            if said and KINDS.get(said) != kind:
                raise ArchiveError(
                    f"{self._files.path} holds {path!r}, which is of the kind {kind}, and is called "
                    f"{str(said)[:100]!r}."
                )

    def _image(self) -> Image:
        saved = self._saved()
        named = {json.loads(self._files.read(path)).get("architecture") for path, *_ in saved}
        others = ARCHITECTURES - named if len(named & ARCHITECTURES) == 1 else ()
        indexed = dict(self._indexed("index.json", others)) if "index.json" in self._files else {}
        if saved and indexed and saved.keys() != indexed.keys():
            raise ArchiveError(
                f"{self._files.path} holds two images: manifest.json names one, index.json another."
            )
        found = saved.keys() | indexed.keys()
        if len(found) != 1:
            raise ArchiveError(f"{self._files.path} is not an image archive: it holds {len(found)} images.")
        ((path, *paths),) = found
        text = self._files.read(path)
        self.image_id = digest(text)
        self.ids.add(self.image_id)
        config: dict[str, Any] = json.loads(text)
        manifest = next(iter(indexed.values()), {})
        described = {blob_path(layer["digest"]): layer for layer in manifest.get("layers", ())}
        if len(paths) > MAX_LAYERS:
            raise ArchiveError(f"{self._files.path} holds an image of more than {MAX_LAYERS} layers.")
        for place, one in {**described, path: manifest.get("config", {})}.items():
            self._files.hold_size(place, one)
        stack = []
        for diff_id, path in zip(config["rootfs"]["diff_ids"], paths, strict=True):
            if self.blob_paths.setdefault(diff_id, path) != path:
                raise ArchiveError(f"{self._files.path} holds two blobs for the layer {diff_id!r}.")
            layer = described.get(path) or {
                "mediaType": self._media_type(path),
                "size": self._files.size(path),
            }
            if not isinstance(layer["size"], int) or not isinstance(layer["mediaType"], str):
                raise layers.ShapeError(f"the manifest describes the layer {diff_id!r} in another way")
            name = path.removeprefix("blobs/").replace("/", ":") if path.startswith("blobs/") else diff_id
            stack.append(Layer(name, diff_id, layer["size"], layer["mediaType"]))
        return Image(config, manifest, tuple(stack), next(iter(saved.values()), ()))

    def _media_type(self, path: str) -> str:
        with self._files.open(path) as file:
            suffix = suffix_of(file.read(8))
        end = next((f"+{end}" for end, found in layers.SUFFIXES.items() if found == suffix), "")
        return f"{layers.PLAIN}{end}"
