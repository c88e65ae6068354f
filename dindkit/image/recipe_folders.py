"""The folder of a recipe: by the name of one in images/, or by the path of one anywhere."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from dindkit.errors import RecipeError, did_you_mean
from dindkit.project import Project

NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
#: What registries take as the last part of an image's name (OCI distribution-spec, `<name>`).
IMAGE_NAME = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
#: The recipe itself; a folder with it is a recipe's.
RECIPE_FILE = "image.toml"


@dataclass(frozen=True)
class Place:
    """Where a recipe lies, and whether that is outside `images/` of the project."""

    #: Without symbolic links on the way, unless it is one of images/.
    folder: Path
    outside: bool


def is_path(reference: str) -> bool:
    """Tell whether `reference` is the path of a recipe's folder; otherwise it is a name in images/."""
    return "/" in reference or reference in (".", "..")


def find(project: Project, reference: str, start: Path | None = None) -> Place:
    """Return the place of the recipe that `reference` names; a path begins at `start` (default: here).

    Raises RecipeError where there is no recipe.
    """
    if is_path(reference):
        return _at(project, reference, start or Path())
    folder = project.images / reference
    if NAME.fullmatch(reference) and is_file(folder / RECIPE_FILE):
        return Place(folder, outside=False)
    known = names(project)
    hint = did_you_mean(reference, known)
    here = Path(start or Path(), reference)
    if reference and is_file(here / RECIPE_FILE):
        hint = f"The folder {'here' if start is None else 'beside the recipe'} is ./{reference}. "
    elif start and reference and is_file(start.parent / reference / RECIPE_FILE):
        hint = f"The folder beside it is ../{reference}. "
    raise RecipeError(
        f"There is no recipe for an image {reference!r}.", f"{hint}There are: {', '.join(known)}."
    )


def _at(project: Project, reference: str, start: Path) -> Place:
    if "\0" in reference:
        raise RecipeError(f"{reference!r} is no path.", "Give that of a folder with an image.toml.")
    folder = Path(os.path.realpath(Path(start, reference)))
    if folder.parent == Path(os.path.realpath(project.images)) and NAME.fullmatch(folder.name):
        place = Place(project.images / folder.name, outside=False)
    else:
        place = Place(folder, outside=True)
    if is_file(place.folder / RECIPE_FILE):
        return place
    shown = displayed(folder)
    begin = f"invoke init {shlex.quote(shown)}"
    if folder.name == RECIPE_FILE and is_file(folder):
        raise RecipeError(f"{shown} is a recipe's file.", f"Give its folder: {displayed(folder.parent)}")
    if not os.path.lexists(folder):
        raise RecipeError(f"There is no folder {shown}.", f"To begin a recipe there, run: {begin}")
    if (folder / RECIPE_FILE).is_symlink():
        raise RecipeError(f"{shown}/{RECIPE_FILE} is a link that leads to no file.", "Correct the link.")
    raise RecipeError(f"{shown} has no image.toml.", f"To begin a recipe, run: {begin}")


def displayed(folder: Path) -> str:
    """Return `folder` as one would type it here: `./my-runner`, or its whole path where it is elsewhere."""
    try:
        below = folder.relative_to(Path.cwd())
    except (OSError, ValueError):
        return str(folder)
    return "." if below == Path() else f"./{below}"


def is_file(path: Path) -> bool:
    """Tell whether a file is there; Path.is_file() raises OSError for a name that no file system takes."""
    return os.path.isfile(path)  # noqa: PTH113


def names(project: Project) -> list[str]:
    """Return the names of all images of `images/`, sorted."""
    return sorted(path.parent.name for path in project.images.glob(f"*/{RECIPE_FILE}"))
