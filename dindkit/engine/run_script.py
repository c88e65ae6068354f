"""Run a shell script in a container of its own."""

from __future__ import annotations

import contextlib
from typing import Any

from docker.errors import APIError, NotFound

from dindkit import leftovers
from dindkit.engine.discover import Engine
from dindkit.engine.exec_command import exec_command
from dindkit.errors import EngineError

#: What this module makes in an engine has this kind in its label: see leftovers.
KIND = "script"


def run(engine: Engine, image: str, script: str, **options: Any) -> str:
    """Run `script` with `options` of docker.models.containers.ContainerCollection.create; return its output.

    It is run by exec in a sleeping container: Podman loses the log of a container that ends at once
    (https://github.com/containers/podman/issues/10675). Raises APIError where the engine starts no such
    container, and EngineError where the script fails.
    """
    leftovers.sweep(engine.client, kind=KIND)
    marks = leftovers.labels(KIND)
    container = engine.client.containers.create(image, ["sleep", "infinity"], labels=marks, **options)
    try:
        container.start()
        done = exec_command(container, ["sh", "-c", script])
        text = done.output.decode(errors="surrogateescape")
        if done.exit_code:
            said = (done.error.decode(errors="replace") or text).strip()
            raise EngineError(
                f"A script in a container of {image} ends with exit code {done.exit_code}: {said}"
            )
        return text
    finally:
        with contextlib.suppress(APIError):
            container.kill()  # Podman's forced removal waits for the first process, which ignores SIGTERM
        with contextlib.suppress(NotFound):
            container.remove(force=True, v=True)
