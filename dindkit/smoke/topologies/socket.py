"""The host's socket in a client container: what the client starts are its siblings, not its children."""

from __future__ import annotations

from docker.errors import NotFound
from docker.types import Mount

from dindkit import leftovers
from dindkit.errors import EngineError
from dindkit.smoke.context import KIND, SmokeContext
from dindkit.smoke.topologies import bind_mounts


def check(context: SmokeContext) -> None:
    """Check siblings and bind mounts; raises EngineError where one is not on the host."""
    sibling = ""
    mounts = [
        Mount("/var/run/docker.sock", context.engine.own_socket, type="bind"),
        Mount(str(context.folder / "shared"), str(context.folder / "shared"), type="bind"),
    ]
    context.machine.run("mkdir", context.folder / "shared")
    # The client needs no privileges: whoever has the socket has the host anyway.
    with context.node("client", ["sleep", "infinity"], mounts=mounts, privileged=False) as client:
        try:
            with context.progress.step("socket: siblings"), context.part("socket: the client", client):
                client.wait()
                image = context.load_base(client)
                marks = [f"--label={name}={value}" for name, value in leftovers.labels(KIND).items()]
                sibling = client.call("docker", "run", "--detach", *marks, image, "sleep", "infinity")
                _check_appears(context, sibling)
            with context.progress.step("socket: bind mounts"), context.part("socket: bind mounts", client):
                bind_mounts.check(
                    client, image, str(context.folder / "alone"), str(context.folder / "shared")
                )
            client.container.remove(force=True, v=True)
            with context.part("socket: the sibling after its client's end"):
                if context.engine.client.containers.get(sibling).status != "running":
                    raise EngineError("The sibling ended with the client.")
        finally:
            if sibling:
                context.engine.client.containers.get(sibling).remove(force=True)


def _check_appears(context: SmokeContext, sibling: str) -> None:
    """Look for the container: ids of daemons do not help, as Podman makes up a new one for each request."""
    try:
        context.engine.client.containers.get(sibling)
    except NotFound:
        raise EngineError("The container does not appear on the host's daemon.") from None
