"""The tree of the embedded engine: extracted from the image once, and compared with it before each start."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from contextlib import closing
from pathlib import Path

from dindkit.embedded.paths import Paths
from dindkit.formats import layer
from dindkit.formats.entry import CAPABILITY, Entry
from dindkit.formats.tree import ContentStore, HashOnlyStore, Tree
from dindkit.image.built import Built, opened
from dindkit.progress import Progress

#: The kinds of Entry, by those of stat(2).
KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
    stat.S_IFIFO: "fifo",
}


def extracted_tree(paths: Paths, built: Built, progress: Progress) -> Path:
    """Return the folder with the tree of `built`, which is extracted if it is missing or has changed.

    The caller holds the engine's lock. Raises ArchiveError where a layer is not the one that was built.
    """
    folder = paths.trees / built.image_id.removeprefix("sha256:")
    if folder.is_dir():
        with progress.step("check the engine's tree"), opened(built) as archive:
            if matches_tree(archive.tree(HashOnlyStore()), folder):
                return folder
        progress.warn(f"{folder} is not the tree of {built.reference}: it is laid out anew.")
    partial = paths.trees / "partial"
    try:
        with progress.step("lay out the engine's tree"):
            for left in (partial, folder):
                shutil.rmtree(left, ignore_errors=True)
            partial.mkdir(parents=True)
            with opened(built) as archive, closing(ContentStore(paths.trees)) as contents:
                layer.extract_tree(archive.tree(contents), partial)
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def matches_tree(tree: Tree, folder: Path) -> bool:
    """Tell whether `folder` holds exactly the paths and contents of `tree`; times are not compared."""
    found = {os.path.relpath(path, folder) for path in _walk(str(folder))}
    if found != {path for path in tree.entries if path}:
        return False
    return all(_is_same(tree, entry, folder / path) for path, entry in tree.entries.items() if path)


def _walk(folder: str) -> list[str]:
    paths = []
    for top, folders, files in os.walk(folder):
        paths += [f"{top}/{name}" for name in (*folders, *files)]
    return paths


def _is_same(tree: Tree, entry: Entry, path: Path) -> bool:
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
        return status.st_size == entry.size and _capability(path) == entry.capability and _holds(path, entry)
    if entry.kind in ("char", "block"):
        return (os.major(status.st_rdev), os.minor(status.st_rdev)) == entry.device
    return True


def _capability(path: Path) -> bytes:
    return os.getxattr(path, CAPABILITY) if CAPABILITY in os.listxattr(path) else b""


def _holds(path: Path, entry: Entry) -> bool:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == entry.digest
