"""A new data root that has the layers of an image, as dockerd's overlay2 driver keeps them.

`docker load` would lay out once more what the engine's tree has: the files of these layers are links to the
tree's. Images, names and all else are dockerd's own work. What is written here is private to dockerd, and was
the same in versions 1.10 to 28 (moby: layer/filestore.go, daemon/graphdriver/overlay2/overlay.go). Where a
version is not known to keep layers so, they are loaded.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from dindkit.errors import DamagedError
from dindkit.files import open_regular
from dindkit.formats import folder as folders
from dindkit.formats import tar_split
from dindkit.formats.contents import ContentStore, read_chunks
from dindkit.formats.entry import Entry
from dindkit.formats.layer import WHITEOUT, Layer, apply
from dindkit.formats.layer_store import LayerStore
from dindkit.formats.tree import Tree
from dindkit.image.built import Built, forgetting_damage

#: Major versions of Docker whose data roots have been compared with what is written here.
VERSIONS = ("26", "28")
#: The packages that bring dockerd.
PACKAGES = ("docker.io", "docker-ce")
#: dockerd's database of layers, a folder for each, below the data root.
LAYERS = "image/overlay2/layerdb/sha256"
#: The modes of folders that others than root may look into, or through.
MODES = {"overlay2": 0o710, LAYERS: 0o755}
#: Bytes of a chain id that make up the name of a link. A mount names all of them, and has but one page.
LINK = 16


def can_have_layers(built: Built) -> bool:
    """Tell whether the data root of a dockerd in `built` is known to keep layers as they are written here."""
    versions = [row.version for row in built.inputs.rows if row.name in PACKAGES]
    return any(re.sub(r"^\d+:", "", version).partition(".")[0] in VERSIONS for version in versions)


def make(data: Path, store: LayerStore, layers: Sequence[Layer], tree: Path) -> None:
    """Make the folder `data`, with these `layers`, the lowest first, whose tree is in the folder `tree`.

    The folder is there when it is whole. What is linked is hashed, and held to the layers' digests. Raises
    OSError, and DamagedError where a layer has changed.
    """
    half = data.with_name(f"{data.name}.partial")
    shutil.rmtree(half, ignore_errors=True)
    _make_folder(half, 0o710)
    try:
        with forgetting_damage(), closing(ContentStore(half)) as contents:
            _write(half, store, layers, tree.resolve(), contents)
        half.rename(data)
    finally:
        shutil.rmtree(half, ignore_errors=True)


def _write(
    data: Path, store: LayerStore, layers: Sequence[Layer], folder: Path, contents: ContentStore
) -> None:
    listed = [store.entries(layer, contents) for layer in layers]
    tree = Tree(contents)
    for entries in listed:
        apply(tree, entries)
    for place in ("overlay2", "overlay2/l", "image", "image/overlay2", "image/overlay2/layerdb", LAYERS):
        _make_folder(data / place, MODES.get(place, 0o700))
    chain: list[str] = []
    for layer, entries in zip(layers, listed, strict=True):
        chain.append(_chain_id(layer, chain))
        _lay_out(entries, data / "overlay2" / chain[-1], tree, folder)
        _link(data / "overlay2", chain)
        found = _describe(data / LAYERS / chain[-1], layer, entries, chain, partial(_content, tree, folder))
        if found != layer.diff_id:  # so the index, which nobody need believe, is not that of the layer
            raise DamagedError(store.index_path(layer.diff_id))


def _content(tree: Tree, folder: Path, entry: Entry) -> Iterator[bytes]:
    """Yield the content of a file of a layer: that of the linked one, or what a layer above has replaced."""
    if tree.entries.get(entry.path) is not entry:
        yield from tree.contents.chunks(entry.digest)
        return
    with open_regular(folder / entry.path) as file:
        yield from read_chunks(file)


def _make_folder(path: Path, mode: int) -> None:
    """Make a folder with this mode, whatever the user's umask: one is the uppermost of containers."""
    path.mkdir()
    path.chmod(mode)


def _chain_id(layer: Layer, below: Sequence[str]) -> str:
    """Return the hex digits of a layer's ChainID: OCI image-spec, config.md."""
    diff_id = layer.diff_id
    if not below:
        return diff_id.removeprefix("sha256:")
    return hashlib.sha256(f"sha256:{below[-1]} {diff_id}".encode()).hexdigest()


def _lay_out(entries: Sequence[Entry], place: Path, tree: Tree, folder: Path) -> None:
    """Write the files of a layer: links to those that the tree has, and what a layer above has replaced."""
    diff = place / "diff"
    _make_folder(place, 0o710)
    _make_folder(diff, 0o755)
    twin = folder if folder.stat().st_dev == diff.stat().st_dev else None

    def content(entry: Entry) -> Iterable[bytes] | None:
        if entry.kind != "file":
            return ()
        is_there = twin and tree.entries.get(entry.path) is entry
        return None if is_there else tree.contents.chunks(entry.digest)

    folders.lay_out(((_as_overlay(entry), content(entry)) for entry in entries), str(diff), str(twin or ""))


def _as_overlay(entry: Entry) -> Entry:
    """Return `entry` as an overlay has it: a whiteout is a device with the numbers 0 and 0."""
    folder, slash, name = entry.path.rpartition("/")
    if not name.startswith(WHITEOUT):
        return entry
    return Entry(f"{folder}{slash}{name.removeprefix(WHITEOUT)}", "char", 0, mtime=entry.mtime)


def _link(overlays: Path, chain: Sequence[str]) -> None:
    """Write down the short name of the last layer of `chain`, and those of all below it."""
    names = [base64.b32encode(bytes.fromhex(one)[:LINK]).decode().rstrip("=") for one in chain]
    (overlays / "l" / names[-1]).symlink_to(f"../{chain[-1]}/diff")
    layer = overlays / chain[-1]
    (layer / "link").write_text(names[-1])
    if below := names[-2::-1]:
        (layer / "lower").write_text(":".join(f"l/{name}" for name in below))
        _make_folder(layer / "work", 0o700)
        (overlays / chain[-2] / "committed").touch(0o600)


def _describe(
    place: Path,
    layer: Layer,
    entries: Sequence[Entry],
    chain: Sequence[str],
    content: Callable[[Entry], Iterable[bytes]],
) -> str:
    """Write what dockerd's database has of the last layer of `chain`; return the digest of its tar."""
    _make_folder(place, 0o700)
    (place / "diff").write_text(layer.diff_id)
    (place / "cache-id").write_text(chain[-1])
    if chain[:-1]:
        (place / "parent").write_text(f"sha256:{chain[-2]}")
    size = sum(len(os.fsencode(entry.link)) if entry.kind == "symlink" else entry.size for entry in entries)
    (place / "size").write_text(str(size))
    with (place / "tar-split.json.gz").open("wb") as file:
        return tar_split.write(entries, content, file)
