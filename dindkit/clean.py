"""`invoke clean`: delete what builds have left in the state folder, and the downloads where that is asked."""

from __future__ import annotations

import shutil

from dindkit.progress import Progress
from dindkit.project import Project


def clean(project: Project, progress: Progress, *, downloads: bool = False) -> None:
    """Delete built images and what interrupted builds left; with `downloads` the download cache as well.

    The embedded engine keeps a tree of its own, so this may run beside it. Raises OSError.
    """
    folders = [project.state / name for name in ("code", "images", "layers", "packages", "sandbox", "tmp")]
    for folder in [*folders, project.cache] if downloads else folders:
        if folder.is_dir():
            shutil.rmtree(folder)
            progress.note(f"deleted {folder}")
