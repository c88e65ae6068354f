"""Network namespaces of this process: os.unshare and os.setns are of Python 3.12."""

from __future__ import annotations

import ctypes

#: The argument of setns(2) and unshare(2) for a network namespace.
NEW_NETWORK = 0x40000000


def leave_network() -> None:
    """Move this thread, and what it starts, into a new network namespace. Raises OSError."""
    _call("unshare", NEW_NETWORK)


def join_network(descriptor: int) -> None:
    """Move this thread, and what it starts, into the network namespace that is open. Raises OSError."""
    _call("setns", descriptor, NEW_NETWORK)


def _call(name: str, *arguments: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), name)
