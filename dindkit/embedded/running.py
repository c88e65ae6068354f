"""Get an engine to work with: the one that answers, or else an embedded one for the time of a command."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from dindkit import defaults, owner
from dindkit.embedded import by_user, lifecycle
from dindkit.embedded.paths import Paths
from dindkit.engine import discover
from dindkit.engine.discover import Engine
from dindkit.image.build import BuildOptions, Built, build
from dindkit.progress import Progress
from dindkit.project import Project


def engine_image(
    project: Project, progress: Progress, built: Built | None = None, suite: str = defaults.SUITE
) -> Built:
    """Return the image to boot: `built` (default: our image of `suite`).

    For an ordinary user it is the one that has a network for users, where this host lets them have one.
    """
    if os.geteuid() != 0 and by_user.has_tunnel():
        progress.note(
            f"An ordinary user's engine is {by_user.IMAGE}, which shares layers with {defaults.IMAGE}."
        )
        suite = built.inputs.lock.suite if built else suite
        return build(project, BuildOptions(by_user.IMAGE, suite=suite), progress)
    return built or build(project, BuildOptions(suite=suite), progress)


@contextlib.contextmanager
def running_engine(project: Project, progress: Progress, built: Built | None = None) -> Iterator[Engine]:
    """Yield the engine that answers, or else boot `built` (default: our image) and stop it at the end.

    An embedded engine that a killed process has left is used, and stopped at the end, too.
    """
    found, token = discover.find(project), str(owner.current())
    if lifecycle.is_abandoned(project):
        progress.note("A run that was killed has left the embedded engine: it is stopped at the end.")
        if found is not None and found.host == f"unix://{Paths(project).socket}":
            found = None
        else:
            lifecycle.stop(project, progress)
    elif found is None:
        progress.note("No Docker engine answers: booting the image itself as one.")
    if found is not None:
        yield found
        return
    booted = lifecycle.start(project, engine_image(project, progress, built), progress, only_for=token)
    try:
        yield booted
    finally:
        lifecycle.stop_for(project, progress, token)
