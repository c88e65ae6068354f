"""A swarm of one manager and two workers, each a container of the image with a daemon of its own."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from dindkit.errors import EngineError
from dindkit.smoke.context import Node, SmokeContext

WORKERS = ("worker 1", "worker 2")
SERVICE = "web"
NETWORK = "overlay"
PORT = 7000
#: Seconds for a service to settle; one whose node was killed waits for three heart beats first.
SETTLE = 90.0
#: Answers each connection with the name of the container that it runs in. Perl is in every Debian.
SERVER = (
    "use Socket; socket(S, PF_INET, SOCK_STREAM, 0); setsockopt(S, SOL_SOCKET, SO_REUSEADDR, 1);"
    f" bind(S, sockaddr_in({PORT}, INADDR_ANY)) or die; listen(S, 5); chomp(my $name = `uname -n`);"
    ' while (accept(C, S)) { syswrite(C, "$name\\n"); close(C) }'
)


def check(context: SmokeContext) -> None:
    """Check that the swarm spreads, connects and restores a service; raises EngineError."""
    with context.network() as network, contextlib.ExitStack() as stack:
        manager, *workers = [
            stack.enter_context(
                # With the command `dockerd` it listens on its socket alone: only its own client talks to it.
                context.node(name, ["dockerd"], network=network, hostname=name.replace(" ", "-"))
            )
            for name in ("manager", *WORKERS)
        ]
        everyone = (manager, *workers)
        with context.progress.step("swarm: join"), context.part("swarm: join", *everyone):
            _join(context, manager, workers)
        with (
            context.progress.step("swarm: a service on three nodes"),
            context.part("swarm: service", *everyone),
        ):
            _serve(context, manager)
        with context.progress.step("swarm: overlay network"), context.part("swarm: overlay", *everyone):
            _talk(everyone)
        with context.progress.step("swarm: a node is killed"), context.part("swarm: healing", *everyone[:2]):
            workers[1].container.kill()
            _until(
                context,
                lambda: len(_nodes(manager)) == 3 and set(_nodes(manager)) == {"manager", "worker-1"},
                lambda: manager.call("docker", "service", "ps", "--no-trunc", SERVICE),
            )


def _join(context: SmokeContext, manager: Node, workers: list[Node]) -> None:
    for node in (manager, *workers):
        node.wait()
        context.load_base(node)
    address = manager.call("hostname", "-i").split()[0]
    manager.call("docker", "swarm", "init", "--advertise-addr", address, "--dispatcher-heartbeat", "1s")
    token = manager.call("docker", "swarm", "join-token", "--quiet", "worker")
    for worker in workers:
        worker.call("docker", "swarm", "join", "--token", token, f"{address}:2377")


def _serve(context: SmokeContext, manager: Node) -> None:
    manager.call("docker", "network", "create", "--driver", "overlay", "--attachable", NETWORK)
    # DNS round robin, because virtual addresses need IPVS in the kernel; and no registry is asked.
    options = ("--endpoint-mode", "dnsrr", "--no-resolve-image", "--detach", "--quiet")
    command = (context.base.reference, "perl", "-e", SERVER)
    manager.call(
        *("docker", "service", "create", "--name", SERVICE, "--network", NETWORK, "--replicas", "3"),
        *(*options, *command),
    )
    _until(
        context,
        lambda: sorted(_nodes(manager)) == ["manager", "worker-1", "worker-2"],
        lambda: manager.call("docker", "service", "ps", "--no-trunc", SERVICE),
    )


def _nodes(manager: Node) -> list[str]:
    """Return the node of each running task."""
    form = "{{.Node}} {{.CurrentState}}"
    tasks = manager.call(
        "docker", "service", "ps", SERVICE, "--filter", "desired-state=running", "--format", form
    )
    return [line.split()[0] for line in tasks.splitlines() if line.split()[1] == "Running"]


def _talk(nodes: tuple[Node, ...]) -> None:
    """Let the container on each node connect to all three, by address, and check that three answer."""
    for node in nodes:
        container = node.call("docker", "ps", "--quiet", "--filter", f"name={SERVICE}.")
        ask = (
            f"for address in $(getent ahostsv4 {SERVICE} | cut -d' ' -f1 | sort -u); do"
            f" exec 3<>/dev/tcp/$address/{PORT} && cat <&3; done"
        )
        said = node.call("docker", "exec", container, "bash", "-c", ask).split()
        if len(set(said)) != 3:
            raise EngineError(f"The container on the {node.name} reaches {said}, and not all three.")


def _until(context: SmokeContext, settled: Callable[[], bool], state: Callable[[], str]) -> None:
    seconds = SETTLE * context.machine.slowness
    deadline = time.monotonic() + seconds
    while not settled():
        if time.monotonic() > deadline:
            raise EngineError(f"After {seconds:.0f} s: {state()}")
        time.sleep(0.3)
