"""A recipe's own folders, links and files, added to the tree of its packages."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from typing import IO

from dindkit.errors import RecipeError
from dindkit.formats import capabilities
from dindkit.formats.entry import Entry
from dindkit.formats.tree import Tree, TreeError
from dindkit.image import rootfs
from dindkit.image.build_inputs import BuildInputs
from dindkit.image.normalize import is_gone
from dindkit.image.recipe import Recipe, User


def overlay(below: Tree, inputs: BuildInputs) -> Tree:
    """Return `below` with the own files of `inputs`; `below` stays as it is.

    Files at paths that `normalize` removes (caches, logs, files of one machine) are left out, unless packages
    ship them; folders and links are there by the recipe's word. Raises RecipeError where a program that is to
    have capabilities is missing.
    """
    tree = Tree(below.contents, below.entries.values())
    for path, text in inputs.recipe.capabilities.items():
        _set_capabilities(tree, inputs.recipe, path, text)
    own = list(_own(tree, inputs))
    named = {*inputs.recipe.folders, *inputs.recipe.links}
    for entry in own:
        if entry.path in named or not _left_out(below, entry.path):
            try:
                tree.add(entry)
            except TreeError as error:
                raise _misplaced(tree, inputs.recipe, entry.path) or error from None
    return tree


def _misplaced(tree: Tree, recipe: Recipe, path: str) -> RecipeError | None:
    """Return what to say of a path below one that is no folder, such as bin/tool where bin is usr/bin."""
    parts = path.split("/")
    for count in range(1, len(parts)):
        above, rest = "/".join(parts[:count]), "/".join(parts[count:])
        found = tree.entries.get(above)
        if found is not None and found.kind == "symlink":
            real = posixpath.normpath(posixpath.join("/", posixpath.dirname(above), found.link))
            return RecipeError(
                f"{recipe.label} has a file /{path}, and /{above} is a link to {found.link} in the image.",
                f"Put it at {real}/{rest}.",
            )
        if found is not None and found.kind != "dir":
            return RecipeError(
                f"{recipe.label} has a file /{path}, and /{above} is a {found.kind} in the image, no folder.",
                "Give it another path.",
            )
    return None


def _own(tree: Tree, inputs: BuildInputs) -> Iterator[Entry]:
    recipe, epoch = inputs.recipe, inputs.epoch

    def file(path: str, content: IO[bytes], bits: int = 0o644) -> Entry:
        digest, size = tree.contents.add(content)
        user = _owner(recipe, path)
        return Entry(path, "file", bits, user.uid, user.gid, mtime=epoch, size=size, digest=digest)

    for path, bits in recipe.folders.items():
        user = _owner(recipe, path)
        yield Entry(path, "dir", bits, user.uid, user.gid, mtime=epoch)
    for path, target in (*recipe.links.items(), *inputs.engine.links.items()):
        yield Entry(path, "symlink", 0o777, mtime=epoch, link=target)
    for path, text in inputs.sources.items():
        yield file(path, BytesIO(text.encode()))
    for one in rootfs.files(recipe):
        if one.link:
            yield Entry(one.name, "symlink", one.mode, mtime=epoch, link=one.link)
        else:
            with one.open() as source:
                yield file(one.name, source, one.mode)


def _owner(recipe: Recipe, path: str) -> User:
    """Return whose the file or folder at `path` is: the owner of the nearest folder that has one, or root."""
    parts = path.split("/")
    for count in range(len(parts), 0, -1):
        if (folder := "/".join(parts[:count])) in recipe.owners:
            return recipe.users[recipe.owners[folder]]
    return User()


def _set_capabilities(tree: Tree, recipe: Recipe, path: str, text: str) -> None:
    """Give capabilities to the file at `path`: whatever its names are, it is one file."""
    program = tree.entries.get(path)
    if program is not None and program.kind == "hardlink":
        program = tree.entries.get(program.link)
    if program is None or program.kind != "file":
        raise RecipeError(
            f"The recipe of {recipe.name} gives capabilities to /{path}, which no package brings as a file.",
            "Correct the recipe.",
        )
    # With a set-id bit it would run as another user, and so with other rights than these.
    mode = program.mode & 0o1777
    for name in tree.names(program.path):
        tree.entries[name] = replace(tree.entries[name], mode=mode)
    tree.entries[program.path] = replace(program, mode=mode, capability=capabilities.encode(text))


def _left_out(below: Tree, path: str) -> bool:
    parts = path.split("/")
    names = ("/".join(parts[:count]) for count in range(1, len(parts) + 1))
    return any(name not in below.entries and is_gone(name) for name in names)
