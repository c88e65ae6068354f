"""The host's socket in a client container: what the client starts are its siblings, and not its children."""

from __future__ import annotations

from docker.errors import NotFound
from docker.types import Mount

from dindkit.engine.stage import Stage
from dindkit.engine.topologies import trap
from dindkit.errors import EngineError


def play(stage: Stage) -> None:
    """Prove both; raises EngineError where a container is no sibling, or a bind mount not the host's."""
    sibling = ""
    mounts = [
        Mount("/var/run/docker.sock", stage.engine.own_socket, type="bind"),
        Mount(str(stage.folder / "shared"), str(stage.folder / "shared"), type="bind"),
    ]
    (stage.folder / "shared").mkdir()
    # The client needs no privileges: whoever has the socket has the host anyway.
    with stage.node("client", ["sleep", "infinity"], mounts=mounts, privileged=False) as client:
        try:
            with stage.progress.step("socket: siblings"), stage.part("socket: the client", client):
                client.wait()
                image = stage.bring_base(client)
                sibling = client.call("docker", "run", "--detach", image, "sleep", "infinity")
                _check_appears(stage, sibling)
            with stage.progress.step("socket: bind mounts"), stage.part("socket: bind mounts", client):
                trap.prove(client, image, str(stage.folder / "alone"), str(stage.folder / "shared"))
            client.container.remove(force=True, v=True)
            with stage.part("socket: the sibling after its client's end"):
                if stage.engine.client.containers.get(sibling).status != "running":
                    raise EngineError("The sibling ended with the client.")
        finally:
            if sibling:
                stage.engine.client.containers.get(sibling).remove(force=True)


def _check_appears(stage: Stage, sibling: str) -> None:
    """By the container, and not by the daemon's id: Podman makes one up for each question."""
    try:
        stage.engine.client.containers.get(sibling)
    except NotFound:
        raise EngineError("The container does not appear on the host's daemon.") from None
