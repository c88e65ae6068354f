"""The locks that lie beside the recipes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dindkit.errors import RecipeError
from dindkit.image import recipe, recipe_folders
from dindkit.packages import lock as locks
from dindkit.packages.lock import Lock
from dindkit.progress import Progress
from dindkit.project import Project


def committed(project: Project, progress: Progress | None = None) -> Iterator[tuple[Path, Lock]]:
    """Yield each lock with its path, by image and file name; a warning names one that cannot be read."""
    for name in recipe_folders.names(project):
        try:
            folder = recipe.load(project, name).folder
            found = [(path, locks.read(path)) for path in sorted(folder.glob("*.lock"))]
        except RecipeError as error:
            if progress:
                progress.warn(str(error))
            continue
        yield from found
