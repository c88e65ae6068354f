"""The ways to run Docker from inside a container, each with its proof: a function of a SmokeContext."""

from __future__ import annotations

from collections.abc import Callable

from dindkit.smoke.context import SmokeContext
from dindkit.smoke.topologies import nested, socket, swarm, tcp, tls

#: Opens more than a test should unless it is asked to: not among `all`.
BY_NAME_ONLY = {"tcp"}

#: In the order in which `all` plays them.
TABLE: dict[str, Callable[[SmokeContext], None]] = {
    "nested": nested.check,
    "socket": socket.check,
    "tls": tls.check,
    "tcp": tcp.check,
    "swarm": swarm.check,
}
