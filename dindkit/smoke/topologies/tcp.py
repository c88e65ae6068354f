"""A daemon container and a client container on a network of their own, without TLS."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from docker.types import Mount

from dindkit.errors import EngineError
from dindkit.smoke.context import Node, SmokeContext
from dindkit.smoke.topologies import bind_mounts

#: The daemon's name for the client, and in its certificate.
ALIAS = "docker"
#: A path with a volume that daemon and client share, and one without.
SHARED = "/shared"
ALONE = "/alone"


def check(context: SmokeContext) -> None:
    """Check that the client reaches the daemon, and whose folders bind mounts name; raises EngineError."""
    context.progress.warn(
        "port 2375 without TLS makes everyone who reaches it root on the machine below the daemon;"
        " here, only containers on a network that lasts as long as this test."
    )
    environment = {"DOCKER_TLS_CERTDIR": ""}
    with pair(context, environment, {"DOCKER_HOST": f"tcp://{ALIAS}:2375", **environment}) as (
        daemon,
        client,
    ):
        check_client(context, daemon, client)


@contextlib.contextmanager
def pair(
    context: SmokeContext,
    daemon_environment: dict[str, str],
    client_environment: dict[str, str],
    certificates: str = "",
) -> Iterator[tuple[Node, Node]]:
    """Start a daemon and a client that share a network, a volume at SHARED and a volume of `certificates`."""
    connect = context.engine.client.api.create_endpoint_config
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(context.network())
        shared = Mount(SHARED, stack.enter_context(context.volume("shared")))
        mounts = [[shared], [shared]]
        if certificates:
            mounts[0].append(Mount("/certs/client", certificates))
            mounts[1].append(Mount("/certs/client", certificates, read_only=True))
        daemon = stack.enter_context(
            context.node(
                "daemon",
                environment=daemon_environment,
                mounts=mounts[0],
                network=network,
                networking_config={network: connect(aliases=[ALIAS])},
            )
        )
        client = stack.enter_context(
            context.node(
                "client",
                ["sleep", "infinity"],
                environment=client_environment,
                mounts=mounts[1],
                network=network,
                privileged=False,
            )
        )
        yield daemon, client


def check_client(context: SmokeContext, daemon: Node, client: Node) -> None:
    """Check that `client` reaches `daemon` and no other, and that bind mounts name the daemon's folders."""
    name = context.token.partition("-")[0]
    with (
        context.progress.step(f"{name}: client to daemon"),
        context.part(f"{name}: the client", client, daemon),
    ):
        daemon.wait()
        client.wait()
        ids = [node.call("docker", "info", "--format", "{{.ID}}") for node in (daemon, client)]
        if ids[0] != ids[1] or ids[0] == context.engine.client.info()["ID"]:
            raise EngineError(f"The client talks to the daemon {ids[1]}, and not to {ids[0]}.")
        image = context.load_base(client)
    with context.progress.step(f"{name}: bind mounts"), context.part(f"{name}: bind mounts", client, daemon):
        bind_mounts.check(client, image, ALONE, SHARED)
