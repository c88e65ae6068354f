"""`invoke shell`: an interactive shell in a first-level container, with Docker ready."""

from __future__ import annotations

import contextlib
import secrets
import sys
from pathlib import Path

from docker.errors import APIError, NotFound
from docker.types import Mount

from dindkit import defaults, leftovers
from dindkit.embedded.running import running_engine
from dindkit.engine import images, load, shared_paths
from dindkit.engine.daemon_settings import settings
from dindkit.engine.discover import Engine
from dindkit.errors import EngineError
from dindkit.image.build import BuildOptions, build
from dindkit.image.built import Built
from dindkit.progress import Progress
from dindkit.project import Project
from dindkit.tools import terminal

#: What this module makes in an engine has this kind in its label: see leftovers.
KIND = "shell"
#: Runs once the nested daemon answers: load our small image, and execute the shell.
WELCOME = 'docker load --quiet --input /nested.tar && exec "${@:-bash}"'


def run(
    project: Project,
    progress: Progress,
    folder: Path | None = None,
    image: str = "",
    recipe: str = defaults.IMAGE,
    suite: str = defaults.SUITE,
) -> int:
    """Open a shell in a container of our image, with its daemon ready and `folder` at /app.

    `folder` is by default the current one. `image` is one that was made from ours, and is pulled if the
    engine lacks it; without it `recipe` is built. `suite` is that of the images that are built. Returns the
    shell's exit code. The container and its volumes are removed when the shell ends. Raises EngineError where
    no engine answers and none can be booted, where the engine does not see the folder, and where the
    container does not start.
    """
    folder = (folder or Path.cwd()).expanduser().absolute()
    if not folder.is_dir():
        raise EngineError(f"{folder} is no folder of this machine.", "Name one: --folder FOLDER")
    dind = None if image else build(project, BuildOptions(recipe, suite=suite), progress)
    if dind and not dind.inputs.choice:
        raise EngineError(f"{dind.reference} has no Docker engine.", 'Give it one: parent = "dind"')
    base = build(project, BuildOptions(image="base", suite=suite), progress)
    with running_engine(project, progress, dind) as engine:
        leftovers.sweep(engine.client, progress, KIND)
        if dind is None:
            images.pull(engine, image, progress)
        else:
            load.load(engine, dind, progress)
            image = dind.reference
        shared_paths.check(engine, folder, image)
        try:
            return _attach(engine, image, folder, base, progress)
        except APIError as error:
            raise EngineError(
                f"A shell in {image} does not start: {str(error.explanation).rstrip('.')}.",
                "The image must have our entrypoint and with-dockerd.",
            ) from error


def _attach(engine: Engine, image: str, folder: Path, base: Built, progress: Progress) -> int:
    """Run the shell in a container of its own. Raises APIError where the engine refuses."""
    interactive = sys.stdin.isatty()
    container = engine.client.containers.create(
        image,
        ["with-dockerd", "bash", "-c", WELCOME],
        name=f"dindkit-shell-{secrets.token_hex(3)}",
        labels=leftovers.labels(KIND),
        environment=settings(),
        mounts=[
            Mount("/app", str(folder), type="bind"),
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
