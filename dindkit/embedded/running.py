"""An engine to work with: the one that answers, or else the embedded one for as long as it is needed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from dindkit.embedded import lifecycle
from dindkit.engine import discover
from dindkit.engine.discover import Engine
from dindkit.image.build import Built, Order, build
from dindkit.progress import Progress
from dindkit.project import Project


@contextlib.contextmanager
def running_engine(project: Project, progress: Progress, built: Built | None = None) -> Iterator[Engine]:
    """Yield the engine that answers, or else boot `built` (default: our image) and stop it at the end."""
    found = discover.find(project)
    if found is not None:
        yield found
        return
    progress.note("No Docker engine answers: booting the image itself as one.")
    booted = lifecycle.start(project, built or build(project, Order(), progress), progress)
    try:
        yield booted
    finally:
        lifecycle.stop(project, progress)
