"""The exchange with a sandbox's worker, interrupted where it is begun."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from typing import IO

import pytest

from dindkit import process
from dindkit.sandbox.exchange import exchange
from dindkit.sandbox.interface import ScriptRun
from dindkit.threads import written_by

#: As unshare that is killed between its fork and its child's wish to be killed with it.
FORKED = "sleep 600 & echo ready; exec sleep 600"


def interrupt(_pipe: IO[bytes]) -> None:
    raise KeyboardInterrupt


def interrupt_in_the_middle(monkeypatch: pytest.MonkeyPatch, turn: int) -> None:
    """Send Ctrl-C around the start of the thread of this `turn`, from 0, which nobody has noted yet."""
    start = threading.Thread.start
    turns = iter(range(100))

    def interrupted(thread: threading.Thread) -> None:
        at = next(turns)
        if at == turn:
            signal.raise_signal(signal.SIGINT)
        start(thread)
        if at == turn:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(threading.Thread, "start", interrupted)


def ended(argv: list[str], run: ScriptRun[None]) -> None:
    before = threading.active_count()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        exchange(argv, run, process.kill_group)
    assert time.monotonic() - began < 60
    assert threading.active_count() == before


def test_a_child_that_its_parent_leaves_is_killed_too() -> None:
    def take(pipe: IO[bytes]) -> None:
        assert pipe.readline() == b"ready\n"
        raise KeyboardInterrupt

    ended(["sh", "-c", FORKED], ScriptRun(lambda pipe: None, "", take, {}, 0))


@pytest.mark.parametrize("turn", [0, 1])
def test_interrupted_while_it_starts_its_threads(monkeypatch: pytest.MonkeyPatch, turn: int) -> None:
    interrupt_in_the_middle(monkeypatch, turn)
    ended(["sleep", "600"], ScriptRun(lambda pipe: None, "", interrupt, {}, 0))


def endless(pipe: IO[bytes]) -> None:
    while True:
        pipe.write(bytes(1 << 16))


def use(write: Callable[[IO[bytes]], None]) -> None:
    with written_by(write) as pipe:
        pipe.read(10)


def test_interrupted_while_a_pipe_gets_its_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    before = threading.active_count()
    interrupt_in_the_middle(monkeypatch, 0)
    with pytest.raises(KeyboardInterrupt):
        use(endless)
    assert threading.active_count() == before


def test_a_writer_that_fails_says_why() -> None:
    def write(pipe: IO[bytes]) -> None:
        pipe.write(b"half")
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        use(write)
    with pytest.raises(OSError, match="the disk is gone"), written_by(write) as pipe:
        raise ValueError(pipe.read())  # as a reader of half a stream does
