"""The tree of the embedded engine: extracted from the image once, and compared with it before each start."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from dindkit.embedded.paths import Paths
from dindkit.errors import DamagedError
from dindkit.files import open_regular
from dindkit.formats import layer
from dindkit.formats.contents import CHUNK, ContentStore, HashOnlyStore
from dindkit.formats.entry import CAPABILITY, Entry
from dindkit.formats.folder import KINDS
from dindkit.formats.layer import Layer
from dindkit.formats.layer_store import LayerStore
from dindkit.formats.tar_writer import Writer
from dindkit.formats.tree import Tree, TreeError
from dindkit.image.built import Built, opened
from dindkit.progress import Progress

#: A tree that is not yet whole.
PARTIAL = "partial"


def extracted_tree(paths: Paths, built: Built, progress: Progress) -> Path:
    """Return the folder with the tree of `built`, which is extracted if it is missing or has changed.

    The caller holds the engine's lock. Raises ArchiveError where a layer is not the one that was built.
    """
    folder = paths.trees / built.image_id.removeprefix("sha256:")
    if folder.is_dir():
        with progress.step("check the engine's tree"), opened(built) as archive:
            if makes_layers(built.store, archive.image.layers, folder):
                return folder
            if matches_tree(archive.tree(HashOnlyStore()), folder):
                return folder
        progress.warn(f"{folder} is not the tree of {built.reference}: it is laid out anew.")
    half = paths.trees / PARTIAL
    try:
        with progress.step("lay out the engine's tree"):
            for left in (half, folder):
                shutil.rmtree(left, ignore_errors=True)
            half.mkdir(parents=True)
            with opened(built) as archive, closing(ContentStore(paths.trees)) as contents:
                layer.extract_tree(archive.tree(contents), half)
            half.rename(folder)
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return folder


def makes_layers(store: LayerStore, layers: Sequence[Layer], folder: Path) -> bool:
    """Tell whether `layers`, made anew of what is in `folder`, are the same bytes; times are not compared.

    One pass over the files, where comparing with the layers' tars takes three. The indexes in `store` say
    where the files belong, and need not be believed: headers and contents go into the digests. False also
    where `store` has no use for that: it tells nothing then.
    """
    with closing(ContentStore(folder.parent)) as contents:
        try:
            entries, tree = store.tree(layers, contents)
            if not _are_listed(tree, entries):
                return False
            return _has_paths(tree, folder) and all(
                _digest(tree, listed, folder) == one.diff_id
                for one, listed in zip(layers, entries, strict=True)
            )
        except (DamagedError, TreeError, OSError):
            return False


def _are_listed(tree: Tree, entries: Iterable[Iterable[Entry]]) -> bool:
    """Tell whether each file of the tree is one of `entries`, so that its content goes into a digest.

    Where a layer replaces a file that has other names, one of these is the file now.
    """
    listed = {id(entry) for layer_entries in entries for entry in layer_entries}
    return all(id(entry) in listed for entry in tree.entries.values() if entry.kind == "file")


def _digest(tree: Tree, entries: Sequence[Entry], folder: Path) -> str:
    """Return the digest of a layer's tar with the contents that `folder` has.

    What a layer above has replaced is in no folder, and read from the layer.
    """
    hashed: Any = layer.HashingWriter()
    writer = Writer(hashed)
    for entry in entries:
        if entry.kind != "file":
            writer.add(entry)
        elif tree.entries.get(entry.path) is entry:
            with open_regular(folder / entry.path) as file:
                writer.add(entry, iter(partial(file.read, CHUNK), b""))
        else:
            writer.add(entry, tree.contents.chunks(entry.digest))
    writer.close()
    return str(hashed.digest)


def matches_tree(tree: Tree, folder: Path) -> bool:
    """Tell whether `folder` holds exactly the paths and contents of `tree`; times are not compared."""
    files = ((path, entry) for path, entry in tree.entries.items() if entry.kind == "file")
    return _has_paths(tree, folder) and all(_holds(folder / path, entry) for path, entry in files)


def _has_paths(tree: Tree, folder: Path) -> bool:
    """Tell whether `folder` holds exactly the paths of `tree`; contents and times are not compared."""
    start = len(str(folder)) + 1
    if {path[start:] for path in _walk(str(folder))} != {path for path in tree.entries if path}:
        return False
    return all(_is_same(tree, entry, folder / path) for path, entry in tree.entries.items() if path)


def _walk(folder: str) -> list[str]:
    paths = []
    for top, folders, files in os.walk(folder):
        paths += [f"{top}/{name}" for name in (*folders, *files)]
    return paths


def _is_same(tree: Tree, entry: Entry, path: Path) -> bool:
    """Compare all but contents."""
    status = path.lstat()
    if entry.kind == "hardlink":
        target = tree.entries.get(entry.link)
        other = (path.parents[entry.path.count("/")] / entry.link).lstat()
        return target is not None and (status.st_dev, status.st_ino) == (other.st_dev, other.st_ino)
    if (KINDS.get(stat.S_IFMT(status.st_mode)), status.st_uid, status.st_gid) != (
        entry.kind,
        entry.uid,
        entry.gid,
    ):
        return False
    if entry.kind == "symlink":
        return str(path.readlink()) == entry.link
    if stat.S_IMODE(status.st_mode) != entry.mode:
        return False
    if entry.kind == "file":
        return status.st_size == entry.size and _capability(path) == entry.capability
    if entry.kind in ("char", "block"):
        return (os.major(status.st_rdev), os.minor(status.st_rdev)) == entry.device
    return True


def _capability(path: Path) -> bytes:
    return os.getxattr(path, CAPABILITY) if CAPABILITY in os.listxattr(path) else b""


def _holds(path: Path, entry: Entry) -> bool:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == entry.digest
