"""An image whose documents and layers are files of their own, and the one archive that they make."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import IO

from dindkit.errors import DamagedError
from dindkit.formats import layer as layers
from dindkit.formats import oci
from dindkit.formats.entry import Entry
from dindkit.formats.layer import Layer
from dindkit.formats.oci import Image
from dindkit.formats.tree import CHUNK, Spool, Tree, read_tar


class Layout:
    """An image on this machine's disk: what an Archive is, without being one file."""

    def __init__(self, image: Image, files: Mapping[str, Path]) -> None:
        """Take the image's documents, and the file of each layer by the digest of its bytes."""
        self.image = image
        self._files = files
        self.image_id = image.image_id
        #: What an engine may call the image: see Archive.
        self.ids = {self.image_id, oci.digest(oci.document(image.manifest))}

    @property
    def size(self) -> int:
        """Bytes of all layers."""
        return sum(layer.size for layer in self.image.layers)

    def blob(self, layer: Layer) -> IO[bytes]:
        """Open the bytes of `layer`."""
        return self._files[layer.digest].open("rb")

    def diff_id(self, layer: Layer) -> str:
        """Read a layer to its end, and return the digest of the tar in it. Raises DamagedError."""
        with self.blob(layer) as blob:
            tar = layers.ReadTap(layers.load(blob, layer.media_type))
            try:
                while tar.read(CHUNK):
                    pass
            except layers.bad_bytes() as error:
                raise DamagedError(self._files[layer.digest]) from error
        return tar.digest

    def entries(self, layer: Layer, spool: Spool) -> Iterator[Entry]:
        """Yield the entries of one layer, whiteouts included. Raises DamagedError where it is another."""
        with self.blob(layer) as blob:
            tap = layers.ReadTap(blob)
            try:
                yield from read_tar(layers.load(tap, layer.media_type), spool)  # type: ignore[arg-type]
                while tap.read(CHUNK):
                    pass
            except layers.bad_bytes() as error:
                raise DamagedError(self._files[layer.digest]) from error
            if tap.digest != layer.digest:
                raise DamagedError(self._files[layer.digest])

    def tree(self, spool: Spool, count: int | None = None) -> Tree:
        """Return the tree that the first `count` layers make; all of them by default."""
        tree = Tree(spool)
        for layer in self.image.layers[:count]:
            layers.apply(tree, self.entries(layer, spool))
        return tree

    def stream(self, left_out: Collection[Layer] = ()) -> Iterator[bytes]:
        """Yield the image as an archive, in chunks, without the blobs of the layers `left_out`.

        Raises DamagedError before the end where a layer is not what it was.
        """
        return oci.stream(self.image, self._files, left_out)


def extract(layout: Layout, folder: Path) -> None:
    """Lay the tree of an image out in `folder`, which is made if need be; owners need root.

    Raises DamagedError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    spool = Spool(folder.parent)
    layers.lay_out(layout.tree(spool), folder)
    spool.close()
