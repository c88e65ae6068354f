"""An image whose documents and layers are separate files, and the archive made of them."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from dindkit.errors import ArchiveError, DamagedError
from dindkit.files import open_regular
from dindkit.formats import layer as layers
from dindkit.formats import oci
from dindkit.formats.contents import CHUNK, ContentStore
from dindkit.formats.entry import Entry
from dindkit.formats.layer import HashingReader, Layer
from dindkit.formats.oci import Image
from dindkit.formats.tar_members import clean
from dindkit.formats.tree import Tree, read_tar


class Layout:
    """An image on this machine's disk, in separate files; it has the interface of an Archive."""

    def __init__(self, image: Image, files: Mapping[str, Path]) -> None:
        """Take the image's documents, and the file of each layer by the digest of its bytes."""
        self.image = image
        self._files = files
        self.image_id = image.image_id
        #: The ids by which an engine may know the image: see Archive.
        self.ids = {self.image_id, oci.digest(oci.document(image.manifest))}

    @property
    def size(self) -> int:
        """Bytes of all layers."""
        return sum(layer.size for layer in self.image.layers)

    def blob(self, layer: Layer) -> IO[bytes]:
        """Open the bytes of `layer`."""
        return open_regular(self._files[layer.digest])

    def diff_id(self, layer: Layer) -> str:
        """Read a layer to its end, and return the digest of the tar in it. Raises DamagedError."""
        with self._tar(layer) as tar:
            while tar.read(CHUNK):
                pass
        return tar.digest

    def hold_layers(self) -> None:
        """Read every layer. Raises DamagedError where one is not that of the configuration."""
        for layer in self.image.layers:
            if self.diff_id(layer) != layer.diff_id:
                raise DamagedError(self._files[layer.digest])

    def entries(self, layer: Layer, contents: ContentStore) -> Iterator[Entry]:
        """Yield the entries of one layer, whiteouts included.

        Raises DamagedError where it cannot be read and, after the last entry, where it is another layer.
        """
        with self._tar(layer) as tar:
            yield from read_tar(tar, contents)
            while tar.read(CHUNK):
                pass
        if tar.digest != layer.diff_id:
            raise DamagedError(self._files[layer.digest])

    @contextmanager
    def _tar(self, layer: Layer) -> Iterator[HashingReader]:
        path = self._files[layer.digest]
        try:
            with open_regular(path) as blob:
                yield HashingReader(layers.load(blob, layer.media_type))
        except FileNotFoundError as error:
            raise DamagedError(path) from error
        except layers.bad_bytes() as error:
            raise DamagedError(path) from error

    def content(self, name: str) -> bytes:
        """Return the content of the file `name` in the image, from the highest layer that has it, hashed.

        Raises DamagedError where a layer is not what was built, and ArchiveError where none has the file.
        """
        for layer in reversed(self.image.layers):
            with self._tar(layer) as tar:
                found = _member(tar, name)
                while tar.read(CHUNK):
                    pass
            if tar.digest != layer.diff_id:
                raise DamagedError(self._files[layer.digest])
            if found is not None:
                return found
        raise ArchiveError(f"The image has no {name!r} in its layers.")

    def contents(self, wanted: Callable[[str], bool]) -> dict[str, bytes]:
        """Return the files whose names are `wanted`, each from the highest layer that has it, hashed.

        A file that a higher layer removes is among them. Raises DamagedError where a layer is not what was
        built.
        """
        found: dict[str, bytes] = {}
        for layer in self.image.layers:
            with self._tar(layer) as tar:
                found |= _members(tar, wanted)
                while tar.read(CHUNK):
                    pass
            if tar.digest != layer.diff_id:
                raise DamagedError(self._files[layer.digest])
        return found

    def tree(self, contents: ContentStore, count: int | None = None) -> Tree:
        """Return the tree that the first `count` layers make; all of them by default."""
        tree = Tree(contents)
        for layer in self.image.layers[:count]:
            layers.apply(tree, self.entries(layer, contents))
        return tree

    def named(self, tags: Sequence[str]) -> Layout:
        """Return the same image with these names."""
        return Layout(replace(self.image, tags=tuple(tags)), self._files)

    def files(self) -> dict[str, Iterable[bytes]]:
        """Return the files of an OCI image layout of this image, each in chunks.

        Raises DamagedError before the end of a layer that has changed.
        """
        found: dict[str, Iterable[bytes]] = {
            oci.blob_path(layer.digest): oci.checked(layer, self._files[layer.digest])
            for layer in self.image.layers
        }
        documents = oci.layout_files(self.image)
        return found | {name: [text] for name, text in sorted(documents.items())}

    def stream(self, left_out: Collection[Layer] = ()) -> Iterator[bytes]:
        """Yield the image as an archive, in chunks, without the blobs of the layers `left_out`.

        Raises DamagedError before the end where a layer has changed.
        """
        return oci.stream(self.image, self._files, left_out)


def _member(stream: Any, name: str) -> bytes | None:
    """Return the content of the file `name` in a tar stream, which is read to its end mark."""
    return _members(stream, name.__eq__).get(name)


def _members(stream: Any, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    """Return the content of each file that is `wanted` in a tar stream, which is read to its end mark."""
    found = {}
    with tarfile.open(fileobj=stream, mode="r|", errors="surrogateescape", encoding="utf-8") as members:
        for member in members:
            name = clean(member.name)
            if wanted(name) and (file := members.extractfile(member)):
                found[name] = file.read()
    return found
