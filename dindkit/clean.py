"""`invoke clean`: delete built images, what killed runs have left, and, on request, the downloads."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from dindkit import leftovers, owner
from dindkit.embedded import lifecycle
from dindkit.engine import discover
from dindkit.errors import EngineError
from dindkit.progress import Progress
from dindkit.project import Project

#: The kinds of temporary folders that commands make in the state folder.
KINDS = ("bench", "preload", "smoke", "verify", "vm")


def clean(project: Project, progress: Progress, *, downloads: bool = False) -> None:
    """Delete built images, and what killed runs have left here and in the engine that answers.

    With `downloads` the download cache as well. What a running process of this machine uses stays, and is
    named. The embedded engine keeps a tree of its own, so this may run beside it. Raises OSError.
    """
    _clean_engine(project, progress)
    for kind in KINDS:
        for path in project.state.glob(f"{kind}-*"):
            _delete_unless_used(path, progress)
    for path in (project.state / "tmp").glob("*"):
        _delete_unless_used(path, progress)
    with contextlib.suppress(OSError):  # it is missing, or something in it is in use
        (project.state / "tmp").rmdir()
    folders = [project.state / name for name in ("code", "images", "layers", "packages", "sandbox")]
    for folder in [*folders, project.cache] if downloads else folders:
        if folder.is_symlink():
            folder.unlink()
            progress.note(f"deleted {folder}, and nothing of the folder that it led to")
        elif folder.is_dir():
            shutil.rmtree(folder)
            progress.note(f"deleted {folder}")


def _clean_engine(project: Project, progress: Progress) -> None:
    """Remove what killed runs have left in the engine that answers, and an embedded engine of theirs."""
    try:
        engine = discover.find(project)
    except EngineError as error:
        progress.warn(str(error))
        engine = None
    if engine is not None:
        for what in leftovers.sweep(engine.client, progress).kept:
            progress.note(f"kept {what}: a process that runs uses it, or another machine's")
    if lifecycle.is_abandoned(project):
        lifecycle.stop(project, progress)
    lifecycle.sweep(project)


def _delete_unless_used(path: Path, progress: Progress) -> None:
    maker = owner.of_path(path)
    if maker is not None and not owner.is_abandoned(maker):
        progress.note(f"kept {path}: a process that runs uses it, or another machine's")
        return
    owner.delete(path)
    if path.exists():
        progress.warn(f"{path} cannot be deleted by this user.")
    else:
        progress.note(f"deleted {path}")
