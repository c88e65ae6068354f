"""`invoke init`: write a small recipe with comments, to begin with."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from dindkit.errors import RecipeError
from dindkit.image import recipe as recipes
from dindkit.image import recipe_folders
from dindkit.image.recipe_folders import IMAGE_NAME, RECIPE_FILE
from dindkit.image.recipe_reader import PACKAGE_NAME
from dindkit.progress import Progress
from dindkit.project import Project

OVER = """\
# The image that this one adds to: one of dindkit's own (dind, base), or the path of another recipe's folder.
# Its packages, files and configuration are here too.
parent = {parent}
"""
OVER_NOTHING = """\
# Over no other image: every Essential package of Debian, and what is named below.
essential = true
"""
TEXT = """\
# A recipe of dindkit: what is in the image, and how a container of it starts. docs/recipes.md has every key.
# Files under rootfs/ beside it are copied as they are: rootfs/usr/local/bin/tool becomes /usr/local/bin/tool.

# `dindkit/{name}:trixie` in engines. Without this line it is the name of the folder.
name = "{name}"
title = "{name}"
description = ""

{above}
# Debian packages; the lock names what they depend on, and every version.
packages = [{packages}]

# What differs from the parent's configuration, if anything does:
# [config]
# env.GREETING = "hello"
# workdir = "/app"

# More keys: groups, users, folders, links, slim, sources.
"""


def write(project: Project, progress: Progress, folder: Path, parent: str, packages: Sequence[str]) -> None:
    """Write an image.toml into `folder`, which is made where it is missing, and say what comes next.

    `parent` is a name of `images/` or a path from here; without one the recipe stands alone. Raises
    RecipeError where there is a recipe already, the parent is none, or a package's name cannot be one.
    """
    file = folder / RECIPE_FILE
    if os.path.lexists(file):
        raise RecipeError(f"There is a recipe at {file} already.", "Edit it, or name another folder.")
    for name in packages:
        if not PACKAGE_NAME.fullmatch(name):
            raise RecipeError(f"{name!r} is no package name.")
    text = TEXT.format(
        name=_name(project, folder),
        above=OVER.format(parent=_quoted(_parent(project, folder, parent))) if parent else OVER_NOTHING,
        packages=", ".join(f'"{name}"' for name in sorted(set(packages))),
    )
    folder.mkdir(parents=True, exist_ok=True)
    with file.open("xb") as opened:
        opened.write(text.encode())
    path = shlex.quote(recipe_folders.displayed(Path(os.path.realpath(folder))))
    progress.note(f"wrote {file}")
    progress.note(f"Edit it, and then run: invoke lock {path} && invoke build {path}")


def _parent(project: Project, folder: Path, parent: str) -> str:
    """Return what image.toml in `folder` calls `parent`. Raises RecipeError where that is no recipe."""
    above = recipes.with_parents(project, parent)[-1]
    if not above.outside:
        return above.name
    path = os.path.relpath(above.folder, os.path.realpath(folder))
    return path if recipe_folders.is_path(path) else f"./{path}"


def _quoted(text: str) -> str:
    """Return a TOML string (TOML 1.0, basic strings)."""
    return '"' + re.sub(r'[\x00-\x1f"\\\x7f]', lambda found: f"\\u{ord(found[0]):04x}", text) + '"'


def _name(project: Project, folder: Path) -> str:
    """Return a name for the image that resembles the folder's, and that no image of dindkit has."""
    words = re.findall("[a-z0-9]+", Path(os.path.realpath(folder)).name.lower())
    name = "-".join(words)[:60].strip("-") or "image"
    if name in recipe_folders.names(project):
        name = f"my-{name}"
    assert IMAGE_NAME.fullmatch(name), name  # noqa: S101
    return name
