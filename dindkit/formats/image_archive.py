"""Read an image archive: ours, any OCI layout in a tar, or what `docker save` writes.

OCI image-spec: image-layout.md, manifest.md, config.md. Where tools read an archive differently, it must be
valid for all of them: what is verified must be what an engine runs.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import tarfile
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

from dindkit.errors import ArchiveError as ArchiveError
from dindkit.files import open_regular
from dindkit.formats import layer as layers
from dindkit.formats.bounded_tar import bounded, reading_file
from dindkit.formats.contents import CHUNK, ContentStore
from dindkit.formats.decompression import streams, suffix_of
from dindkit.formats.entry import Entry
from dindkit.formats.layer import Layer
from dindkit.formats.oci import Image, blob_path, digest
from dindkit.formats.tree import Tree, read_tar

#: Bytes of a manifest, an index or a configuration. Registries take no manifest of more than 4 MB.
MAX_DOCUMENT = 16_000_000
#: Bytes of a text file in the image, such as dpkg's database.
MAX_CONTENT = 64_000_000

#: An image may unpack to so many times the bytes of its archive, and so many bytes more.
MAX_RATIO, MAX_UNPACKED = 200, 1_000_000_000
#: For large files that need not outlive the program: hier(7).
TEMPORARY = "/var/tmp"  # noqa: S108 - the file there has no name
#: Layers of one image. Docker takes some 125, and a mount in Linux 500 at most.
MAX_LAYERS = 512

#: Of the images in an index an engine takes the one for its own architecture; these are ours.
ARCHITECTURES = {"amd64", "arm64"}


def _unpacked_path(name: str) -> str:
    """Return where an engine that unpacks an archive into an empty folder finds the member `name`."""
    return posixpath.normpath(f"/{name}").lstrip("/")


def _folded(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a JSON object whose names are in lower case: to engines `layers` and `Layers` are one name.

    Raises ValueError where a name is there twice. This is the rule of Go's encoding/json, Unmarshal.
    """
    found = {name.casefold(): value for name, value in pairs}
    if len(found) != len(pairs):
        raise layers.ShapeError("a name is twice in one object")
    return found


class _Tap:
    """Passes reads on, and remembers the SHA-256 of what was read.

    Once `size` bytes have been read, `checked` is called with their digest; `spend` is called with the number
    of bytes of each read.
    """

    def __init__(
        self,
        stream: Any,
        size: int = -1,
        checked: Callable[[str], None] = lambda _digest: None,
        spend: Callable[[int], None] = lambda _count: None,
    ) -> None:
        self._stream, self._hash = stream, hashlib.sha256()
        self._left, self._checked, self._spend = size, checked, spend

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._stream.read(size)
        self._spend(len(data))
        self._hash.update(data)
        self._left -= len(data)
        if self._left == 0 and (data or size):
            self._checked(self.digest)
        return data

    def close(self) -> None:
        self._stream.close()

    def __enter__(self) -> _Tap:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


#: The paths of an image's configuration and of its layers, lowest first.
_Blobs = tuple[str, ...]


class Archive:
    """An open image archive: ours, any OCI layout in a tar, or what `docker save` writes.

    It holds one image. Where both manifest.json and index.json are there they name the same image: some
    engines read the first, some the second.
    """

    def __init__(self, tar: tarfile.TarFile, path: Path, size: int) -> None:
        """Read the documents of the archive at `path`, which has `size` bytes. Raises ArchiveError."""
        self._archive, self._path = tar, path
        self._most = _most(size)
        #: Bytes that each layer unpacks to, as far as it was read, by diff_id.
        self._unpacked: dict[str, int] = {}
        #: The ids by which an engine may know the image: the digest of its configuration, or of a manifest or
        #: an index where the engine has containerd's image store.
        self.ids: set[str] = set()
        #: The digest of the configuration's bytes.
        self.image_id = ""
        self._blob_paths: dict[str, str] = {}
        try:
            self._members = self._listed()
            self.image = self._image()
        except (TypeError, AttributeError) as error:  # JSON of another shape
            raise ArchiveError(f"{path} is not an image archive: {layers.reason(error)}.") from error
        except layers.bad_bytes() as error:
            raise ArchiveError(f"{path} is not an image archive: {layers.reason(error)}.") from error

    def _listed(self) -> dict[str, tarfile.TarInfo]:
        """Return the members by path; refuse two of one path, and paths below a link."""
        members: dict[str, tarfile.TarInfo] = {}
        for member in bounded(self._archive):
            path = _unpacked_path(member.name)
            if members.setdefault(path, member) is not member and not member.isdir():
                raise ArchiveError(f"{self._path} holds {path!r} twice.")
        for path in members:
            while path := posixpath.dirname(path):
                if path in members and not members[path].isdir():
                    raise ArchiveError(f"{self._path} holds files below {path!r}, which is no folder.")
        return members

    def _open(self, path: str) -> IO[bytes]:
        member = self._members.get(path)
        file = self._archive.extractfile(member) if member is not None and member.isreg() else None
        if file is None:
            raise ArchiveError(f"{self._path} lacks {path!r}.")
        return file

    def _read(self, path: str) -> bytes:
        """Return a JSON document. Raises ArchiveError where its path names another digest."""
        with self._open(path) as file:
            text = file.read(MAX_DOCUMENT + 1)
        if len(text) > MAX_DOCUMENT:
            raise ArchiveError(f"{self._path} holds {path!r} with more than {MAX_DOCUMENT} bytes.")
        self._hold(path, digest(text))
        return text

    def _hold(self, path: str, found: str) -> None:
        if path.startswith("blobs/") and path != blob_path(found):
            raise ArchiveError(f"{self._path} is damaged or forged: {path!r} has the digest {found}.")

    def _hold_size(self, path: str, descriptor: Mapping[str, Any]) -> None:
        """Refuse a descriptor that names another size than its blob has: engines do (descriptor.md)."""
        member = self._members.get(path)
        if not isinstance(descriptor.get("size", 0), int):
            raise layers.ShapeError(f"the size of {path!r} is no number")
        if member is not None and descriptor.get("size", member.size) != member.size:
            raise ArchiveError(
                f"{self._path} is damaged or forged: {path!r} has {member.size} bytes, and is described with "
                f"{str(descriptor['size'])[:40]}."
            )

    def _target(self, name: str) -> str:
        """Return the path of `name`, or its target: Docker before 25 saves equal layers as links."""
        path = _unpacked_path(name)
        member = self._members.get(path)
        if member is None or not member.issym():
            return path
        return _unpacked_path(posixpath.join(posixpath.dirname(path), member.linkname))

    def _saved(self) -> dict[_Blobs, tuple[str, ...]]:
        """Return the tags of each image in manifest.json."""
        found: dict[_Blobs, tuple[str, ...]] = {}
        if "manifest.json" in self._members:
            for entry in json.loads(self._read("manifest.json"), object_pairs_hook=_folded):
                names = (entry["config"], *entry["layers"])
                if not all(isinstance(name, str) for name in names):
                    raise layers.ShapeError("manifest.json names files by what is no text")
                blobs = tuple(map(self._target, names))
                found[blobs] = (*found.get(blobs, ()), *(entry.get("repotags") or ()))
        return found

    def _indexed(
        self, path: str, others: Collection[str], descriptor: Mapping[str, Any] = MappingProxyType({})
    ) -> Iterator[tuple[_Blobs, dict[str, Any]]]:
        """Yield each image that the index or manifest at `path` leads to, with its manifest.

        An engine with containerd's image store saves a pulled index unchanged. It lists images for `others`,
        architectures that this engine never takes and whose blobs may be missing.
        """
        text = self._read(path)
        self._hold_size(path, descriptor)
        found = json.loads(text, object_pairs_hook=_folded)
        for entry in found.get("manifests") or ():
            if path != "index.json" and (entry.get("platform") or {}).get("architecture") in others:
                continue
            if entry["digest"] not in self.ids:
                self.ids.add(entry["digest"])
                yield from self._indexed(blob_path(entry["digest"]), others, entry)
        if "config" in found:
            described = (found["config"], *found["layers"])
            yield tuple(blob_path(one["digest"]) for one in described), json.loads(text)

    def _image(self) -> Image:
        saved = self._saved()
        named = {json.loads(self._read(path)).get("architecture") for path, *_ in saved}
        others = ARCHITECTURES - named if len(named & ARCHITECTURES) == 1 else ()
        indexed = dict(self._indexed("index.json", others)) if "index.json" in self._members else {}
        if saved and indexed and saved.keys() != indexed.keys():
            raise ArchiveError(f"{self._path} holds two images: manifest.json names one, index.json another.")
        found = saved.keys() | indexed.keys()
        if len(found) != 1:
            raise ArchiveError(f"{self._path} is not an image archive: it holds {len(found)} images.")
        ((path, *paths),) = found
        text = self._read(path)
        self.image_id = digest(text)
        self.ids.add(self.image_id)
        config: dict[str, Any] = json.loads(text)
        manifest = next(iter(indexed.values()), {})
        described = {blob_path(layer["digest"]): layer for layer in manifest.get("layers", ())}
        if len(paths) > MAX_LAYERS:
            raise ArchiveError(f"{self._path} holds an image of more than {MAX_LAYERS} layers.")
        for place, one in {**described, path: manifest.get("config", {})}.items():
            self._hold_size(place, one)
        stack = []
        for diff_id, path in zip(config["rootfs"]["diff_ids"], paths, strict=True):
            if self._blob_paths.setdefault(diff_id, path) != path:
                raise ArchiveError(f"{self._path} holds two blobs for the layer {diff_id!r}.")
            layer = described.get(path) or {
                "mediaType": self._media_type(path),
                "size": self._members[path].size,
            }
            if not isinstance(layer["size"], int) or not isinstance(layer["mediaType"], str):
                raise layers.ShapeError(f"the manifest describes the layer {diff_id!r} in another way")
            name = path.removeprefix("blobs/").replace("/", ":") if path.startswith("blobs/") else diff_id
            stack.append(Layer(name, diff_id, layer["size"], layer["mediaType"]))
        return Image(config, manifest, tuple(stack), next(iter(saved.values()), ()))

    def _media_type(self, path: str) -> str:
        with self._open(path) as file:
            suffix = suffix_of(file.read(8))
        end = next((f"+{end}" for end, found in layers.SUFFIXES.items() if found == suffix), "")
        return f"{layers.PLAIN}{end}"

    def blob(self, layer: Layer) -> IO[bytes]:
        """Open the compressed bytes of `layer`.

        Reading to the end raises ArchiveError where they have not the digest in the blob's name.
        """
        path = self._blob_paths[layer.diff_id]
        size = self._members[path].size if path in self._members else -1
        blob: Any = _Tap(self._open(path), size, lambda found: self._hold(path, found))
        return blob  # type: ignore[no-any-return]

    @contextmanager
    def _tar(self, layer: Layer) -> Iterator[_Tap]:
        """Open the tar in the blob of `layer`; damaged bytes are an ArchiveError in the block."""
        with self.blob(layer) as blob:
            try:
                yield _Tap(layers.load(blob, layer.media_type), spend=self._spender(layer.diff_id))
                while blob.read(CHUNK):  # bytes after the compressed data belong to the blob, too
                    pass
            except layers.bad_bytes() as error:
                why = layers.reason(error)
                cause = f"{self._path} is damaged: its layer {layer.digest!r} cannot be read: {why}."
                raise ArchiveError(cause) from error

    def _spender(self, diff_id: str) -> Callable[[int], None]:
        """Return what counts the bytes of a layer. It raises ArchiveError where all layers have too many."""
        before = sum(count for name, count in self._unpacked.items() if name != diff_id)
        here = 0

        def spend(count: int) -> None:
            nonlocal here
            here += count
            self._unpacked[diff_id] = max(here, self._unpacked.get(diff_id, 0))
            if before + here > self._most:
                raise ArchiveError(f"{self._path} unpacks to more than {self._most} bytes.")

        return spend

    def diff_id(self, layer: Layer) -> str:
        """Read a layer to its end, and return the digest of the tar in it, whatever the configuration says.

        Raises ArchiveError where the blob cannot be read, or has not the digest in its name.
        """
        with self._tar(layer) as tar:
            while tar.read(CHUNK):
                pass
        return tar.digest

    def _hold_layer(self, layer: Layer, found: str) -> None:
        if found != layer.diff_id:
            raise ArchiveError(
                f"{self._path} is damaged or forged: in the place of the layer {layer.diff_id!r} is {found}."
            )

    def hold_layers(self, advance: Callable[[float], None] = lambda _count: None) -> None:
        """Read every layer. Raises ArchiveError where one is not that of the configuration.

        `advance` is called with the compressed size of each.
        """
        for layer in self.image.layers:
            self._hold_layer(layer, self.diff_id(layer))
            advance(layer.size)

    def tree(self, contents: ContentStore, count: int | None = None) -> Tree:
        """Return the tree that the first `count` layers make; all of them by default."""
        tree = Tree(contents)
        for layer in self.image.layers[:count]:
            layers.apply(tree, self.entries(layer, contents))
        return tree

    def entries(self, layer: Layer, contents: ContentStore, *, believed: bool = False) -> Iterator[Entry]:
        """Yield the entries of one layer, whiteouts included.

        Raises ArchiveError where it cannot be read and, after the last entry, where the layer is not that of
        the configuration. With `believed`, for comparisons, that is not checked.
        """
        with self._tar(layer) as tar:
            yield from read_tar(tar, contents)
            while tar.read(CHUNK):
                pass
        if not believed:
            self._hold_layer(layer, tar.digest)


def _most(size: int) -> int:
    """Return how many bytes an archive of `size` bytes may unpack to."""
    return size * MAX_RATIO + MAX_UNPACKED


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open the image archive at `path`, compressed or not. Raises ArchiveError where it is none."""
    with open_regular(path, links=True) as file, ExitStack() as stack:
        size = os.fstat(file.fileno()).st_size
        try:
            tar = stack.enter_context(reading_file(stack.enter_context(_plain(file, path, size))))
        except tarfile.ReadError as error:
            raise ArchiveError(f"{path} is not an image archive: it is no tar, or a damaged one.") from error
        except layers.bad_bytes() as error:
            raise ArchiveError(f"{path} is not an image archive: {layers.reason(error)}.") from error
        yield Archive(tar, path, size)


@contextmanager
def _plain(file: IO[bytes], path: Path, size: int) -> Iterator[IO[bytes]]:
    """Yield the tar in `file`: itself, or what it unpacks to, on the disk.

    Blobs are read in any order, and going back in compressed bytes would be unpacking from the start again.
    """
    suffix = suffix_of(file.read(8))
    file.seek(0)
    if not suffix:
        yield file
        return
    with tempfile.TemporaryFile(dir=TEMPORARY if os.access(TEMPORARY, os.W_OK) else None) as plain:
        for chunk in _unpacked(file, path, suffix):
            plain.write(chunk)
            if plain.tell() > _most(size):
                raise ArchiveError(f"{path} unpacks to more than {_most(size)} bytes.")
        plain.seek(0)
        yield plain


def _unpacked(file: IO[bytes], path: Path, suffix: str) -> Iterator[bytes]:
    """Yield what a compressed file holds, in chunks. Raises ArchiveError."""
    try:
        yield from streams(file, suffix, padded=True)
    except layers.bad_bytes() as error:
        raise ArchiveError(f"{path} is not an image archive: {layers.reason(error)}.") from error
