"""What `invoke build` does with a built image: load it into the engine that answers, if any does."""

from __future__ import annotations

from dindkit.engine import sockets
from dindkit.errors import EngineError
from dindkit.image.built import Built
from dindkit.progress import Progress
from dindkit.project import Project


def load_if_running(project: Project, built: Built, progress: Progress) -> None:
    """Load `built` into the engine that answers, or print where its archive lies if none does."""
    engine = None
    try:
        if sockets.may_answer(project):
            from dindkit.engine import discover

            engine = discover.find(project)
    except EngineError as error:
        progress.warn(str(error))
    if engine is None:
        progress.note(
            f"No Docker engine answers. The image is in {built.folder}; "
            "for a file that `docker load` takes, run: invoke build --output FILE"
        )
        return
    from dindkit.engine import load

    try:
        load.load(engine, built, progress)
    except load.OtherArchitectureError as error:
        progress.note(f"{error.cause} It is not loaded.")
        return
    progress.note(f"{built.reference} is loaded into {engine.host} ({engine.found_by}).")
