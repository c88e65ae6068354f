"""A rootless daemon in a container without --privileged, with the least set of flags that works."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from docker.models.containers import Container

from dindkit import leftovers
from dindkit.engine import unprivileged
from dindkit.engine.unprivileged import Rights
from dindkit.errors import EngineError
from dindkit.smoke.context import KIND, Node, SmokeContext

#: The image that is built for it.
IMAGE = "dind-rootless"
#: Where the machine keeps tunnels from its users, as one without udev does, root opens the container's own
#: device to them, and then becomes the user.
AS_USER = (
    "chmod 0666 /dev/net/tun && exec setpriv --reuid=1000 --regid=1000 --clear-groups"
    ' dockerd-entrypoint.sh "$@"'
)
BY_ROOT: dict[str, Any] = {
    "user": "root",
    "entrypoint": ["sh", "-c", AS_USER, "sh"],
    "environment": {"HOME": "/home/rootless"},
}
INFO = "{{.SecurityOptions}} {{.DockerRootDir}}"
PROCESSES = "ps -o uid= -C dockerd,containerd,rootlesskit,slirp4netns | sort -u"
PORT = 7000
#: Answers each connection with the name of the container that it runs in. Perl is in every Debian.
SERVER = (
    "use Socket; socket(S, PF_INET, SOCK_STREAM, 0); bind(S, sockaddr_in(7000, INADDR_ANY)) or die;"
    " listen(S, 5); chomp(my $name = `uname -n`);"
    ' while (accept(C, S)) { syswrite(C, "$name\\n"); close(C) }'
)


def check(context: SmokeContext) -> None:
    """Check that a user's daemon runs containers, and that their ports can be reached; raises EngineError."""
    with _node(context, "probe", ["sleep", "infinity"]) as probe, context.part("rootless: the probe", probe):
        ours = probe.call("sh", "-c", "[ -w /dev/net/tun ] || echo closed") == "closed"
    with _node(context, "rootless daemon", **(BY_ROOT if ours else {})) as daemon:
        with context.progress.step("rootless: the daemon"), context.part("rootless: the daemon", daemon):
            daemon.wait()
            _check_user(daemon)
        with context.progress.step("rootless: nested"), context.part("rootless: nested", daemon):
            _check_nested(daemon, context.load_base(daemon))


@contextlib.contextmanager
def _node(context: SmokeContext, name: str, command: Sequence[str] = (), **options: Any) -> Iterator[Node]:
    def make() -> Container:
        return unprivileged.create(
            *(context.engine, context.image, command, Rights()),
            mounts=[context.archive_mount()],
            name=context.name(name),
            labels=leftovers.labels(KIND),
            **options,
        )

    with context.running(name, make) as node:
        yield node


def _check_user(daemon: Node) -> None:
    info = daemon.call("docker", "info", "--format", INFO)
    if "name=rootless" not in info or not info.endswith(" /home/rootless/.local/share/docker"):
        raise EngineError(f"The daemon is not a user's: {info}")
    owners = daemon.call("sh", "-c", PROCESSES).split()
    if owners != ["1000"]:
        raise EngineError(f"The daemon's processes belong to the users {', '.join(owners)}, and not to 1000.")


def _check_nested(daemon: Node, image: str) -> None:
    """Run a container, whose root must be the user, and reach it by a published port."""
    maps = daemon.call("docker", "run", "--rm", image, "cat", "/proc/self/uid_map").split()
    if maps[:3] != ["0", "1000", "1"]:
        raise EngineError(f"Root in a nested container is not the user 1000 outside of it: {' '.join(maps)}.")
    publish = ("--detach", "--publish", f"{PORT}:{PORT}")
    server = daemon.call("docker", "run", *publish, image, "perl", "-e", SERVER)
    ask = f"for _ in 1 2 3 4 5; do exec 3<>/dev/tcp/127.0.0.1/{PORT} && cat <&3 && break; sleep 1; done"
    said = daemon.call("bash", "-c", ask)
    if not said or not server.startswith(said):
        raise EngineError(f"The published port answers {said!r}, and not {server[:12]}, its container.")
