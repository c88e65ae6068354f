"""What a fuzz target is, and one trial of it: no hang, no exception but ours, every refusal a sentence."""

from __future__ import annotations

import os
import signal
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy

from dindkit.errors import DindkitError

#: Seconds that one case may take on a loaded machine; the usual is a few milliseconds.
DEADLINE = 30

#: Bytes of heap that a trial may have on top of what the process has already.
MEMORY = 1_000_000_000

#: Of a refusal, characters: more is no sentence.
LONGEST = 20_000


@dataclass(frozen=True)
class Target:
    """One door for hostile input; `check` gets a case and an empty folder, and raises what the code raises.

    `examples` is how many cases the ordinary suite tries.
    """

    name: str
    cases: SearchStrategy[Any]
    check: Callable[[Any, Path], None]
    #: A case that is to be accepted, or all others might be refused for a reason that no one means.
    honest: Any
    examples: int = 20


class HangError(AssertionError):
    """A case took longer than DEADLINE."""


@contextmanager
def deadline(seconds: int = DEADLINE) -> Iterator[None]:
    """Raise HangError in the block after so many seconds. Main thread only."""

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise HangError(f"a case took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def trial(target: Target, case: Any, ends: Counter[str]) -> None:
    """Run one case; count in `ends` whether it was accepted or refused. Raises what breaks a promise."""
    with tempfile.TemporaryDirectory(prefix="dindkit-fuzz-") as name, deadline():
        try:
            target.check(case, Path(name))
        except DindkitError as error:
            refusal = error
            ends["refused"] += 1
        else:
            ends["accepted"] += 1
            return
    said = str(refusal)
    assert refusal.cause.strip(), f"{refusal!r} says nothing"
    assert len(said) < LONGEST, f"{len(said)} characters are no sentence: {said[:200]}…"
    assert "Traceback" not in said, said


def fuzz(target: Target, seed: int, examples: int, ends: Counter[str]) -> None:
    """Try `examples` cases from `seed`. Raises the first broken promise, with its smallest case."""
    sure = settings(
        max_examples=examples,
        deadline=None,  # ours ends what hangs, hypothesis's only complains afterwards
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )

    @hypothesis.seed(seed)
    @sure
    @given(case=target.cases)
    def run(case: Any) -> None:
        trial(target, case, ends)

    run()


def fresh_seed() -> int:
    """Return a seed that nobody has chosen, or the one in DINDKIT_FUZZ_SEED."""
    given = os.environ.get("DINDKIT_FUZZ_SEED")
    return int(given) if given else int.from_bytes(os.urandom(4), "big")
