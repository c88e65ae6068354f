"""Threads that carry bytes to and from another program, and end with the block that needs them."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import IO

from dindkit.interrupts import deferred


class Threads:
    """Threads that have ended when the `with` block is left; what ends them, the block sees to."""

    def __init__(self) -> None:
        self._started: list[threading.Thread] = []

    def __enter__(self) -> Threads:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for thread in self._started:
            thread.join()

    def start(self, work: Callable[[], None]) -> None:
        """Run `work` in a thread. Ctrl-C in the middle of this would leave a thread that nobody can join."""
        with deferred():
            thread = threading.Thread(target=work)
            thread.start()
            self._started.append(thread)


def feed(write: Callable[[IO[bytes]], object], pipe: IO[bytes], failures: list[BaseException]) -> None:
    """Let `write` write to `pipe`, and close it; what it raises goes into `failures`.

    A reader that has gone is no failure: the reader's side tells why.
    """
    try:
        with pipe:
            write(pipe)
    except BrokenPipeError:
        pass
    except BaseException as error:
        failures.append(error)


@contextlib.contextmanager
def written_by(write: Callable[[IO[bytes]], object]) -> Iterator[IO[bytes]]:
    """Yield a file from which the block reads what `write` writes meanwhile, in a thread.

    Raises what `write` raises, also where the block fails: of half a stream it knows less.
    """
    failures: list[BaseException] = []
    try:
        with Threads() as threads, contextlib.ExitStack() as files:
            with deferred():
                ends = os.pipe()
                reading = files.enter_context(os.fdopen(ends[0], "rb"))
                threads.start(lambda: feed(write, os.fdopen(ends[1], "wb"), failures))
            yield reading
    except Exception:
        if failures:
            raise failures[0] from None
        raise
    if failures:
        raise failures[0]
