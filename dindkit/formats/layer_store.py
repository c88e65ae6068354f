"""Layers on disk, by diff_id: plain tars, each with an index of its entries.

An image's id does not depend on how its layers are compressed, and an engine on this machine takes them as
they are. They are compressed where bytes count: for registries and for archives that leave this machine.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import astuple
from pathlib import Path
from typing import IO, Any

from dindkit.errors import DamagedError
from dindkit.files import open_regular, replacing, temporary_file
from dindkit.formats import layer as layers
from dindkit.formats.contents import CHUNK, ContentStore
from dindkit.formats.entry import Entry
from dindkit.formats.layer import HashingWriter, Layer, apply
from dindkit.formats.tar_writer import Writer
from dindkit.formats.tree import Tree


class LayerStore:
    """A folder of layers. Any number of processes may share it: files get their names when they are whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, diff_id: str) -> Path:
        """Return where the tar of this layer is, or would be."""
        return self.folder / diff_id.removeprefix("sha256:") / "layer.tar"

    def index_path(self, diff_id: str) -> Path:
        """Return where the index of this layer is, or would be."""
        return self.path(diff_id).with_name("index.json")

    def holds(self, layer: Layer) -> bool:
        """Say whether the layer is here, by name and size; its content is checked where it is read."""
        path = self.path(layer.diff_id)
        try:
            return path.stat().st_size == layer.size and self.index_path(layer.diff_id).is_file()
        except FileNotFoundError:
            return False

    def add(self, entries: Iterable[Entry], contents: ContentStore) -> Layer:
        """Keep `entries`, in their order, as a layer."""
        with self._new_file() as file:
            hashed: Any = HashingWriter(file)
            places = []
            writer = Writer(hashed)
            for entry in entries:
                content = contents.chunks(entry.digest) if entry.kind == "file" else ()
                places.append((entry, writer.add(entry, content)))
            writer.close()
            layer = Layer(hashed.digest, hashed.digest, hashed.size, layers.PLAIN)
            path = self.path(layer.diff_id)
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_index(self.index_path(layer.diff_id), places)
            file.flush()
            Path(file.name).replace(path)
        return layer

    def entries(self, layer: Layer, contents: ContentStore) -> list[Entry]:
        """Return what is in a layer, in order; `contents` adopts its tar. Raises DamagedError."""
        path = self.path(layer.diff_id)
        index = self.index_path(layer.diff_id)
        try:
            with open_regular(index) as file:
                digest, _, text = file.read().partition(b"\n")
            if hashlib.sha256(text).hexdigest().encode() != digest:
                raise DamagedError(index)
            found = [(_entry(values), start) for *values, start in json.loads(text)]
            contents.adopt(
                path, {entry.digest: (start, entry.size) for entry, start in found if entry.kind == "file"}
            )
        except (FileNotFoundError, ValueError, TypeError, RecursionError) as error:
            raise DamagedError(index) from error
        return [entry for entry, _ in found]

    def tree(self, layers: Iterable[Layer], contents: ContentStore) -> tuple[list[list[Entry]], Tree]:
        """Return what is in each of `layers`, the lowest first, and the tree that they make together.

        `contents` adopts their tars. Raises DamagedError, TreeError.
        """
        listed = [self.entries(layer, contents) for layer in layers]
        tree = Tree(contents)
        for entries in listed:
            apply(tree, entries)
        return listed, tree

    def compressed_path(self, diff_id: str, level: int = layers.LEVEL) -> Path:
        """Return where a compressed layer is kept.

        The name tells all that decides its bytes: `sized`, that zstd was told how long the layer is.
        """
        return self.path(diff_id).with_name(f"layer.{level}.sized.tar.zst")

    def compressed(self, layer: Layer, level: int = layers.LEVEL) -> tuple[Layer, Path]:
        """Return the layer as registries get it, and its file; compressed once. Raises DamagedError."""
        plain, path = self.path(layer.diff_id), self.compressed_path(layer.diff_id, level)
        if path.is_file():
            found = _read_compressed(path)
            if found and found.diff_id == layer.diff_id:
                return found, path
        with self._new_file() as file:
            with open_regular(plain) as source:
                size = os.fstat(source.fileno()).st_size
                found = layers.compress(iter(lambda: source.read(CHUNK), b""), size, file, level)
            if found.diff_id != layer.diff_id:
                raise DamagedError(plain)
            file.flush()
            Path(file.name).replace(path)
        return found, path

    @contextmanager
    def _new_file(self) -> Iterator[IO[bytes]]:
        """Yield a new file on the store's file system; it is deleted at the end unless it was renamed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with temporary_file(self.folder) as file:
            yield file


def _write_index(path: Path, places: Iterable[tuple[Entry, int]]) -> None:
    rows = []
    for entry, start in places:
        *values, capability, device = astuple(entry)
        rows.append([*values, capability.hex(), device, start])
    text = json.dumps(rows, separators=(",", ":")).encode("ascii")
    with replacing(path) as file:
        file.write(hashlib.sha256(text).hexdigest().encode() + b"\n" + text)


def _entry(values: list[Any]) -> Entry:
    values[-2:] = bytes.fromhex(values[-2]), tuple(values[-1])
    return Entry(*values)


def _read_compressed(path: Path) -> Layer | None:
    """Read the compressed layer at `path` to its end, and return it; None where it is damaged."""
    with open_regular(path) as file:
        packed = layers.HashingReader(file)
        plain = layers.HashingReader(layers.load(packed, layers.ZSTD))
        try:
            while plain.read(CHUNK):
                pass
        except layers.bad_bytes():
            return None
        return Layer(packed.digest, plain.digest, path.stat().st_size)
