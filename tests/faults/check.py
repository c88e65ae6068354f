"""One fault: a signal ends a verb at a moment, and then the host and the next run are looked at."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from typing import Protocol

from tests.faults.run import Ended, Running, gone

INTERRUPTED = "interrupted; what was there before is unchanged."


@dataclass(frozen=True)
class Step:
    """A command line, and which kept project it starts from; `{}` stands for what only a run knows."""

    words: tuple[str, ...]
    kept: str
    #: What takes away the result of a whole run, where that is more than files: an engine.
    undo: tuple[str, ...] = ()
    #: Whether what it prints depends on what was there, as the list of what a lock has changed does.
    tells_changes: bool = False
    #: Whether it talks to more than this machine, so that it cannot run in a network of its own.
    online: bool = False


class Bench(Protocol):
    """Where steps run."""

    def begin(self, kept: str) -> None:
        """Put the project back to what was kept."""

    def start(self, words: tuple[str, ...]) -> Running:
        """Start a verb."""

    def see(self, mark: str) -> set[str]:
        """Return what there is, the processes of the run with this mark included."""


def run_whole(bench: Bench, step: Step) -> Ended:
    """Run the step, and what undoes it. Raises AssertionError where one of them fails or leaves a process."""
    ended = bench.start(step.words).wait(600)
    assert ended.code == 0, ended.said
    if step.undo:
        undone = bench.start(step.undo).wait(600)
        assert undone.code == 0, undone.said
        assert not re.search(r"Traceback|internal error", undone.said), undone.said
    left = gone(ended.mark)
    assert not left, left
    return ended


def check(
    bench: Bench, step: Step, right: Ended, after: set[str], number: signal.Signals, moment: float
) -> None:
    """End the step at `moment`, a part of the time that the whole run `right` took, and look.

    `after` is what there was after a whole run. Raises AssertionError.
    """
    where = f"{number.name} at {moment} of {right.seconds:.2f} s"
    bench.begin(step.kept)
    before = bench.see("none")
    ended = bench.start(step.words).end(number, moment * right.seconds)
    whole = ended.code == 0
    if not (step.undo and (whole or number == signal.SIGKILL)):
        left = gone(ended.mark)
        assert not left, f"{where}: {left}"
    if number != signal.SIGKILL:
        # Before the verb has begun there is nobody to say a word, and nothing to be left.
        unsaid = ended.said == "" and ended.code in (1, -number)
        ended_well = whole or (ended.code == 1 and INTERRUPTED in ended.said) or unsaid
        assert ended_well, f"{where}: exit code {ended.code}, {ended.said}"
        if not (step.undo and whole):
            extra = bench.see(ended.mark) - before - after
            assert not extra, f"{where}: left {sorted(extra)}"
    try:
        again = run_whole(bench, step)
    except AssertionError as error:
        raise AssertionError(f"{where}, and then: {error}") from error
    left = gone(ended.mark)
    assert not left, f"{where}, and then: {left}"
    assert step.tells_changes or again.result == right.result, where
    found = bench.see(again.mark)
    assert found == after, f"{where}, and then: {sorted(found ^ after)}"
    assert not re.search(r"Traceback|internal error", ended.said + again.said), where
