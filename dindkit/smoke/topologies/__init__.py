"""The ways to run Docker from inside a container. Each module has a function that checks one way."""

from __future__ import annotations

from collections.abc import Callable

from dindkit.smoke.context import SmokeContext
from dindkit.smoke.topologies import nested, rootless, socket, swarm, tcp, tls

#: Topologies that run only by name, not with `all`, and why.
BY_NAME_ONLY = {"rootless": "as it needs an image of its own", "tcp": "for what it opens"}

#: In the order in which `all` runs them.
TABLE: dict[str, Callable[[SmokeContext], None]] = {
    "nested": nested.check,
    "socket": socket.check,
    "tls": tls.check,
    "tcp": tcp.check,
    "swarm": swarm.check,
    "rootless": rootless.check,
}
