"""The ways to run Docker from inside a container, each with its proof: a function of a Stage."""

from __future__ import annotations

from collections.abc import Callable

from dindkit.engine.stage import Stage
from dindkit.engine.topologies import nested

#: In the order in which `all` plays them.
TABLE: dict[str, Callable[[Stage], None]] = {
    "nested": nested.play,
}
