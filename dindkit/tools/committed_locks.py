"""The locks that lie beside the recipes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dindkit.errors import RecipeError
from dindkit.image import build_options, recipe
from dindkit.image.build_options import BuildOptions
from dindkit.packages import lock as locks
from dindkit.packages.lock import Lock
from dindkit.progress import Progress
from dindkit.project import Project


def committed(project: Project, progress: Progress | None = None) -> Iterator[tuple[Path, Lock]]:
    """Yield each lock with its path, by image and file name; a warning names one that cannot be read."""
    for name in recipe.names(project):
        try:
            chain = recipe.with_parents(project, name)
            folder = build_options.lock_path(project, chain, len(chain) - 1, BuildOptions(), "").parent
            found = [(path, locks.read(path)) for path in sorted(folder.glob("*.lock"))]
        except RecipeError as error:
            if progress:
                progress.warn(str(error))
            continue
        yield from found
