"""Find an engine for the container sandbox, where this host cannot run maintainer scripts itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dindkit.progress import Progress
from dindkit.project import Project

if TYPE_CHECKING:
    from dindkit.sandbox.interface import Sandbox


def find_sandbox(project: Project, progress: Progress) -> Sandbox | None:
    """Return a sandbox on the engine that answers, and say so; None where none does.

    Raises EngineError where DOCKER_HOST or DOCKER_CONTEXT names an engine that does not answer.
    """
    # Imported here, because few builds need an engine: the client's library takes its time.
    from dindkit.engine import discover
    from dindkit.sandbox import container

    engine = discover.find(project)
    if engine is None:
        return None
    progress.note_once(
        f"sandbox: a container on {engine.host} ({engine.found_by}), as this host makes no namespaces."
    )
    return container.Container(engine.client)
