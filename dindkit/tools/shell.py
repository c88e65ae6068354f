"""`invoke shell`: an interactive shell in a first-level container, with Docker ready."""

from __future__ import annotations

import contextlib
import secrets
import sys
from pathlib import Path

from docker.errors import NotFound
from docker.types import Mount

from dindkit import leftovers
from dindkit.embedded.running import running_engine
from dindkit.engine import load, shared_paths
from dindkit.engine.daemon_settings import settings
from dindkit.image.build import Order, build
from dindkit.image.built import opened
from dindkit.progress import Progress
from dindkit.project import Project
from dindkit.tools import terminal

#: What leftovers know by this word.
KIND = "shell"
#: Runs once the nested daemon answers: bring our small image in, and hand over.
WELCOME = 'docker load --quiet --input /nested.tar && exec "${@:-bash}"'


def run(project: Project, progress: Progress, folder: Path | None = None) -> int:
    """Open a shell in a container of our image, with its daemon ready and `folder` at /app.

    `folder` is the current one if none is given. Returns the shell's exit code; raises EngineError where no
    engine answers and none can be booted, and where the engine does not see the folder. The container and its
    volumes go away with the shell.
    """
    folder = folder or Path.cwd()
    dind, base = (build(project, Order(image=name), progress) for name in ("dind", "base"))
    with opened(base) as archive:  # the container loads the file as it lies there
        archive.hold_layers()
    interactive = sys.stdin.isatty()
    with running_engine(project, progress, dind) as engine:
        leftovers.sweep(engine.client, progress, KIND)
        load.load(engine, dind, progress)
        shared_paths.check(engine, folder, dind.reference)
        container = engine.client.containers.create(
            dind.reference,
            ["with-dockerd", "bash", "-c", WELCOME],
            name=f"dindkit-shell-{secrets.token_hex(3)}",
            labels=leftovers.labels(KIND),
            environment=settings(),
            mounts=[
                Mount("/app", str(folder.absolute()), type="bind"),
                Mount("/nested.tar", str(base.archive), type="bind", read_only=True),
            ],
            privileged=True,
            stdin_open=True,
            tty=interactive,
            working_dir="/app",
        )
        try:
            progress.note(f"Try: docker run --rm -it -v /app:/app {base.reference}")
            return terminal.attach(container, interactive)
        finally:
            with contextlib.suppress(NotFound):
                container.remove(force=True, v=True)
