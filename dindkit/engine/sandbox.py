"""Find an engine for the container sandbox: the one of the user's choice, or the one that answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dindkit.errors import EngineError
from dindkit.progress import Progress
from dindkit.project import Project
from dindkit.sandbox.emulation import BY_MACHINE

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


def on_builder(builder: str, architecture: str, progress: Progress) -> Sandbox:
    """Return a sandbox on the engine that `builder` names: a Docker context, or an address.

    Raises EngineError where it does not answer, or is of another architecture than `architecture`: it may
    have an emulator registered, but nobody has asked for one.
    """
    from dindkit.engine import discover
    from dindkit.sandbox import container

    engine = discover.named(builder, "--builder")
    machine = str(engine.client.info().get("Architecture", ""))
    if BY_MACHINE.get(machine, machine) != architecture:
        raise EngineError(
            f"The engine at {engine.host} runs on {machine or 'a machine it does not name'}, and the image is"
            f" for {architecture}.",
            "Name an engine of that architecture, or leave --builder out.",
        )
    progress.note_once(f"sandbox: a container on {engine.host} ({engine.found_by}).")
    return container.Container(engine.client)
