"""Add users and groups with fixed ids, before any maintainer script runs: passwd(5), subuid(5)."""

from __future__ import annotations

from collections.abc import Iterator

from dindkit.errors import RecipeError
from dindkit.formats.tree import Tree
from dindkit.image.recipe import Recipe


def _append(tree: Tree, path: str, lines: list[str], mtime: int) -> None:
    """Append to the file at `path` those lines whose first field is new."""
    if not lines:
        return
    text = tree.text(path)
    present = {line.partition(":")[0] for line in text.splitlines()}
    text += "".join(f"{line}\n" for line in lines if line.partition(":")[0] not in present)
    if path in tree.entries:
        tree.edit(path, text)
    else:
        tree.put(path, text, mtime=mtime)


def _groups(recipe: Recipe) -> Iterator[tuple[str, int]]:
    yield from sorted(recipe.groups.items(), key=lambda item: item[1])
    for name, user in sorted(recipe.users.items()):
        if name not in recipe.groups:
            yield name, user.gid


def _mark(tree: Tree, shadow: str) -> str:
    """Return the password field: `x` where the file `shadow` exists, else `*`."""
    return "x" if shadow in tree.entries else "*"


def _require_groups(tree: Tree, recipe: Recipe) -> None:
    wanted = {(name, group) for name, user in recipe.users.items() for group in user.groups}
    known = {line.partition(":")[0] for line in tree.text("etc/group").splitlines()} if wanted else set()
    for name, group in sorted(wanted):
        if group not in known:
            raise RecipeError(
                f"The recipe of {recipe.name} puts {name} into the group {group}, which is not there.",
                "Packages' own groups come too late: name it under [groups], with its id.",
            )


def _join(tree: Tree, path: str, recipe: Recipe) -> None:
    """Add the recipe's users to the groups that they name, in the last field of the file at `path`."""
    if path not in tree.entries or not any(user.groups for user in recipe.users.values()):
        return
    lines = []
    for line in tree.text(path).splitlines():
        *fields, members = line.split(":")
        new = [name for name, user in sorted(recipe.users.items()) if fields[0] in user.groups]
        names = [name for name in members.split(",") if name]
        lines.append(":".join([*fields, ",".join([*names, *(name for name in new if name not in names)])]))
    tree.edit(path, "".join(f"{line}\n" for line in lines))


def prepare(tree: Tree, recipe: Recipe, mtime: int) -> None:
    """Add the recipe's users and groups to `tree`, which has the files of its parent.

    Raises RecipeError where a user is to be in a group that is not there.

    Nobody can log in with a password (`*`). Shadow files get this mark where they exist. Otherwise the
    package passwd makes them later, and takes the mark from these files.
    """
    groups = list(_groups(recipe))
    users = sorted(recipe.users.items())
    _append(tree, "etc/group", [f"{name}:{_mark(tree, 'etc/gshadow')}:{gid}:" for name, gid in groups], mtime)
    _require_groups(tree, recipe)
    _join(tree, "etc/group", recipe)
    mark = _mark(tree, "etc/shadow")
    passwd = [f"{name}:{mark}:{user.uid}:{user.gid}::{user.home}:{user.shell}" for name, user in users]
    _append(tree, "etc/passwd", passwd, mtime)
    if "etc/gshadow" in tree.entries:
        _append(tree, "etc/gshadow", [f"{name}:*::" for name, _ in groups], mtime)
        _join(tree, "etc/gshadow", recipe)
    if "etc/shadow" in tree.entries:
        days = mtime // 86400
        _append(tree, "etc/shadow", [f"{name}:*:{days}::::::" for name, _ in users], mtime)
    subids = [f"{name}:{user.subids[0]}:{user.subids[1]}" for name, user in users if user.subids]
    _append(tree, "etc/subuid", subids, mtime)
    _append(tree, "etc/subgid", subids, mtime)
