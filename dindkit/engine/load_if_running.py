"""What `invoke build` does with a built image: load it into the engine that answers, if any does."""

from __future__ import annotations

from collections.abc import Sequence

from dindkit.engine import sockets
from dindkit.errors import EngineError
from dindkit.image.built import Built
from dindkit.progress import Progress
from dindkit.project import Project


def load_if_running(
    project: Project, built: Built, progress: Progress, names: Sequence[str] = ()
) -> str | None:
    """Load `built` into the engine that answers, give it these `names` too, and return the engine's address.

    Where none answers, or only one of another architecture, print so, and return None.
    """
    engine = None
    try:
        sockets.require_named()
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
        return None
    from dindkit.engine import load

    try:
        load.load(engine, built, progress, names)
    except load.OtherArchitectureError as error:
        progress.note(f"{error.cause} It is not loaded.")
        return None
    also = f", also as {', '.join(names)}" if names else ""
    progress.note(f"{built.reference} is loaded into {engine.host} ({engine.found_by}){also}.")
    return engine.host
