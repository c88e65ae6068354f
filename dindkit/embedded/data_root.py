"""A new data root that has the layers of an image, as dockerd's overlay2 driver keeps them.

`docker load` would lay out once more what the engine's tree has: the files of these layers are links to the
tree's. Images, names and all else are dockerd's own work. What is written here is private to dockerd, and was
the same in versions 1.10 to 28 (moby: layer/filestore.go, daemon/graphdriver/overlay2/overlay.go). Where a
version is not known to keep layers so, they are loaded.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dindkit.errors import DamagedError
from dindkit.files import open_regular
from dindkit.formats import folder as folders
from dindkit.formats import oci, tar_split
from dindkit.formats.contents import ContentStore, read_chunks
from dindkit.formats.entry import Entry
from dindkit.formats.layer import WHITEOUT, Layer
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
        for name in ("overlay2", "overlay2/l", "image", "image/overlay2", "image/overlay2/layerdb", LAYERS):
            _make_folder(half / name, MODES.get(name, 0o700))
        with _opened(store, layers, tree, half) as found:
            for one in found:
                place = half / "overlay2" / one.chain[-1]
                _make_folder(place, 0o710)
                _lay_out(one, place / "diff")
                _link(half / "overlay2", one.chain)
                _make_folder(half / LAYERS / one.chain[-1], 0o700)
                _describe(half, one, place / "diff")
        half.rename(data)
    finally:
        shutil.rmtree(half, ignore_errors=True)


def mend(data: Path, store: LayerStore, layers: Sequence[Layer], tree: Path) -> None:
    """Lay out anew those of `layers` in `data` that are linked to another tree than the one in `tree`.

    What has changed a file of a tree has changed the layers that are linked to it: a tree that is not what it
    was is laid out anew, and so are they. No engine may run. Raises OSError, DamagedError.
    """
    places = [data / "overlay2" / one for one in _chain_ids(layers)]
    if not any(place.is_dir() for place in places) or tree.stat().st_dev != data.stat().st_dev:
        return
    with _opened(store, layers, tree, data.parent) as found:
        for one, place in zip(found, places, strict=True):
            if place.is_dir() and not _is_linked(one, place / "diff"):
                half = place / "diff.partial"
                shutil.rmtree(half, ignore_errors=True)
                _lay_out(one, half)
                _describe(data, one, half)
                shutil.rmtree(place / "diff", ignore_errors=True)
                half.rename(place / "diff")


@dataclass(frozen=True)
class _Layer:
    """A layer, what is in it, the tree that all layers make, the folder with that, and its chain so far."""

    layer: Layer
    entries: Sequence[Entry]
    tree: Tree
    folder: Path
    chain: Sequence[str]
    index: Path

    def is_linked(self, entry: Entry) -> bool:
        """Tell whether `entry` is a file of the tree: no layer above has replaced it."""
        return entry.kind == "file" and self.tree.entries.get(entry.path) is entry


@contextmanager
def _opened(store: LayerStore, layers: Sequence[Layer], folder: Path, work: Path) -> Iterator[list[_Layer]]:
    """Yield what is known of each layer; contents that are in no file are kept in `work` meanwhile."""
    with forgetting_damage(), closing(ContentStore(work)) as contents:
        listed, tree = store.tree(layers, contents)
        chain = _chain_ids(layers)
        yield [
            _Layer(layer, entries, tree, folder.resolve(), chain[:end], store.index_path(layer.diff_id))
            for end, (layer, entries) in enumerate(zip(layers, listed, strict=True), start=1)
        ]


def _chain_ids(layers: Sequence[Layer]) -> list[str]:
    """Return the hex digits of the layers' ChainIDs: OCI image-spec, config.md."""
    found: list[str] = []
    for layer in layers:
        chain_id = layer.diff_id
        if found:
            chain_id = oci.digest(f"sha256:{found[-1]} {layer.diff_id}".encode())
        found.append(chain_id.removeprefix("sha256:"))
    return found


def _is_linked(one: _Layer, diff: Path) -> bool:
    """Tell whether the files in `diff` are those of the tree."""
    try:
        linked = filter(one.is_linked, one.entries)
        return all((diff / entry.path).samefile(one.folder / entry.path) for entry in linked)
    except OSError:
        return False


def _make_folder(path: Path, mode: int) -> None:
    """Make a folder with this mode, whatever the user's umask: one is the uppermost of containers."""
    path.mkdir()
    path.chmod(mode)


def _lay_out(one: _Layer, diff: Path) -> None:
    """Write the files of a layer: links to those that the tree has, and what a layer above has replaced."""
    _make_folder(diff, 0o755)
    twin = one.folder if one.folder.stat().st_dev == diff.stat().st_dev else None

    def content(entry: Entry) -> Iterable[bytes] | None:
        if entry.kind != "file":
            return ()
        return None if twin and one.is_linked(entry) else one.tree.contents.chunks(entry.digest)

    entries = ((_as_overlay(entry), content(entry)) for entry in one.entries)
    folders.lay_out(entries, str(diff), str(twin or ""))


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


def _describe(data: Path, one: _Layer, diff: Path) -> None:
    """Write what dockerd's database has of a layer, whose files in `diff` are held to its digest."""
    place, entries = data / LAYERS / one.chain[-1], one.entries
    (place / "diff").write_text(one.layer.diff_id)
    (place / "cache-id").write_text(one.chain[-1])
    if one.chain[:-1]:
        (place / "parent").write_text(f"sha256:{one.chain[-2]}")
    size = sum(len(os.fsencode(entry.link)) if entry.kind == "symlink" else entry.size for entry in entries)
    (place / "size").write_text(str(size))
    with (place / "tar-split.json.gz").open("wb") as file:
        digest = tar_split.write(entries, partial(_content, diff), file)
    if digest != one.layer.diff_id:  # so the index, which nobody need believe, is not that of the layer
        raise DamagedError(one.index)


def _content(diff: Path, entry: Entry) -> Iterator[bytes]:
    with open_regular(diff / entry.path) as file:
        yield from read_chunks(file)
