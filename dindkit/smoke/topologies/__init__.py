"""The ways to run Docker from inside a container. Each module has a function that checks one way."""

from __future__ import annotations

from collections.abc import Callable

from dindkit.smoke.context import SmokeContext
from dindkit.smoke.topologies import nested, socket, swarm, tcp, tls

#: Topologies that open a port without TLS: they run only by name, not with `all`.
BY_NAME_ONLY = {"tcp"}

#: In the order in which `all` runs them.
TABLE: dict[str, Callable[[SmokeContext], None]] = {
    "nested": nested.check,
    "socket": socket.check,
    "tls": tls.check,
    "tcp": tcp.check,
    "swarm": swarm.check,
}
