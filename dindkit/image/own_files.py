"""A recipe's own folders, links and files, added to the tree of its packages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from dindkit.formats.entry import Entry
from dindkit.formats.layer import hard_links
from dindkit.formats.tree import Tree
from dindkit.image.build_inputs import BuildInputs, mode, rootfs
from dindkit.image.normalize import is_gone


def overlay(below: Tree, inputs: BuildInputs) -> Tree:
    """Return `below` with the own files of `inputs`; `below` stays as it is.

    Paths that `normalize` removes (caches, logs, files of one machine) are left out, unless packages ship
    them.
    """
    tree = Tree(below.contents, below.entries.values())
    own = list(_own(tree, inputs))
    _part_names(tree, {entry.path for entry in own})
    for entry in own:
        if not _left_out(below, entry.path):
            tree.add(entry)
    return tree


def _own(tree: Tree, inputs: BuildInputs) -> Iterator[Entry]:
    recipe, epoch = inputs.recipe, inputs.epoch

    def file(path: str, content: bytes, bits: int = 0o644) -> Entry:
        digest, size = tree.contents.put(content)
        return Entry(path, "file", bits, mtime=epoch, size=size, digest=digest)

    for path, bits in recipe.folders.items():
        yield Entry(path, "dir", bits, mtime=epoch)
    for path, target in (*recipe.links.items(), *inputs.engine.links.items()):
        yield Entry(path, "symlink", 0o777, mtime=epoch, link=target)
    for path, text in inputs.sources.items():
        yield file(path, text.encode())
    for source in rootfs(recipe):
        path = source.relative_to(recipe.rootfs).as_posix()
        if source.is_symlink():
            yield Entry(path, "symlink", 0o777, mtime=epoch, link=str(source.readlink()))
        else:
            yield file(path, source.read_bytes(), mode(source))


def _left_out(below: Tree, path: str) -> bool:
    parts = path.split("/")
    names = ("/".join(parts[:count]) for count in range(1, len(parts) + 1))
    return any(name not in below.entries and is_gone(name) for name in names)


def _part_names(tree: Tree, paths: set[str]) -> None:
    """Where one of `paths` replaces a file that has hard links, let these links keep the old content."""
    for file, names in hard_links(tree).items():
        others = [name for name in names if name not in paths]
        if file in paths and others:
            tree.entries[others[0]] = replace(tree.entries[file], path=others[0])
            for name in others[1:]:
                tree.entries[name] = replace(tree.entries[name], link=others[0])
            del tree.entries[file]
