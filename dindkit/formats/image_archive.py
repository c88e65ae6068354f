"""Read an image archive: ours, any OCI layout in a tar, or what `docker save` writes.

OCI image-spec: image-layout.md, manifest.md, config.md. Where tools read an archive differently, it must be
valid for all of them: what is verified must be what an engine runs.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from dindkit.errors import ArchiveError as ArchiveError
from dindkit.files import open_regular
from dindkit.formats import layer as layers
from dindkit.formats.archive_documents import Documents
from dindkit.formats.archive_files import ArchiveFiles
from dindkit.formats.bounded_tar import reading_file
from dindkit.formats.contents import CHUNK, ContentStore
from dindkit.formats.decompression import streams, suffix_of
from dindkit.formats.entry import Entry
from dindkit.formats.layer import Layer
from dindkit.formats.tree import Tree, read_tar

#: Bytes of a text file in the image, such as dpkg's database.
MAX_CONTENT = 64_000_000

#: An image may unpack to so many times the bytes of its archive, and so many bytes more.
MAX_RATIO, MAX_UNPACKED = 200, 1_000_000_000
#: For large files that need not outlive the program: hier(7).
TEMPORARY = "/var/tmp"  # noqa: S108 - the file there has no name


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


class Archive:
    """An open image archive with one image: ours, any OCI layout in a tar, or what `docker save` writes."""

    def __init__(self, tar: tarfile.TarFile, path: Path, size: int) -> None:
        """Read the documents of the archive at `path`, which has `size` bytes. Raises ArchiveError."""
        self._path = path
        self._most = _most(size)
        #: Bytes that each layer unpacks to, as far as it was read, by diff_id.
        self._unpacked: dict[str, int] = {}
        try:
            self._files = ArchiveFiles(tar, path)
            self._documents = Documents(self._files)
        except (TypeError, AttributeError) as error:  # JSON of another shape
            raise ArchiveError(f"{path} is not an image archive: {layers.reason(error)}.") from error
        except layers.bad_bytes() as error:
            raise ArchiveError(f"{path} is not an image archive: {layers.reason(error)}.") from error
        self.image, self.image_id, self.ids = (
            self._documents.image,
            self._documents.image_id,
            self._documents.ids,
        )

    def blob(self, layer: Layer) -> IO[bytes]:
        """Open the compressed bytes of `layer`.

        Reading to the end raises ArchiveError where they have not the digest in the blob's name.
        """
        path, files = self._documents.blob_paths[layer.diff_id], self._files
        blob: Any = _Tap(files.open(path), files.size(path), lambda found: files.hold(path, found))
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
