"""Keep the signals that end a program out of blocks that must not be left halfway."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

#: Ctrl-C, what asks a program to end, and the end of its terminal, which not every system tells of.
ENDS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Delay ENDS until the block is done.

    In the middle of starting a program they would leave it running, and nobody would know of it; a thread
    could not be joined. Signals reach the main thread only: in another one this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def remember(number: int, _frame: FrameType | None) -> None:
        came.append(number)

    handlers = [signal.signal(number, remember) for number in ENDS]
    try:
        yield
    finally:
        for number, handler in zip(ENDS, handlers, strict=True):
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Ignore ENDS in the block, here and in the programs that it runs."""
    handlers = [signal.signal(number, signal.SIG_IGN) for number in ENDS]
    try:
        yield
    finally:
        for number, handler in zip(ENDS, handlers, strict=True):
            signal.signal(number, handler)
