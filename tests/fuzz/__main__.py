"""The long run: `python -m tests.fuzz MINUTES`, what `invoke test --fuzz MINUTES` calls."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.target import MEMORY, Target, fresh_seed, fuzz
from tests.fuzz.targets import TARGETS

#: Seconds that a target has before it is the next one's turn.
TURN = 20

#: Cases tried from one seed.
BATCH = 100


@dataclass
class Tally:
    """What became of one target so far."""

    ends: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    #: Bytes that the process of one turn had at most.
    peak: int = 0
    failure: str = ""


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def turn(target: Target, seed: int, seconds: float) -> tuple[Counter[str], str, int]:
    """Run one target in a process of its own; return how cases ended, the failure, and the peak of memory."""
    reading, writing = os.pipe()
    # However the process ends, its temporary files, such as keys of its own, go with it.
    with tempfile.TemporaryDirectory(prefix="dindkit-fuzz-") as folder:
        child = os.fork()
        if child == 0:
            os.close(reading)
            tempfile.tempdir = folder
            ends, failure = _batches(target, seed, seconds)
            with os.fdopen(writing, "w") as pipe:
                json.dump([ends, failure], pipe)
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            text = pipe.read()
        _pid, status, usage = os.wait4(child, 0)
    ends, failure = json.loads(text) if text else ({}, f"the process ended with status {status}")
    return Counter(ends), failure, usage.ru_maxrss * 1024


def _batches(target: Target, seed: int, seconds: float) -> tuple[Counter[str], str]:
    heap = _heap() + MEMORY
    resource.setrlimit(resource.RLIMIT_DATA, (heap, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    ends: Counter[str] = Counter()
    until = time.monotonic() + seconds
    try:
        while time.monotonic() < until:
            fuzz(target, seed, BATCH, ends)
            seed += 1
    except BaseException as error:
        notes = "\n".join(getattr(error, "__notes__", []))
        return ends, f"seed {seed}\n{traceback.format_exc()}\n{notes}"
    return ends, ""


def _heap() -> int:
    """Return the bytes of data that this process has now (proc_pid_status(5), VmData)."""
    with Path("/proc/self/status").open() as status:
        (line,) = [line for line in status if line.startswith("VmData:")]
    return int(line.split()[1]) * 1024


def main(minutes: float, only: str = "") -> int:
    """Go round the targets until the time is over; return how many broke a promise."""
    seed = fresh_seed()
    say(f"fuzz seed: {seed} (DINDKIT_FUZZ_SEED={seed} repeats it)")
    tallies = [(target, Tally()) for target in TARGETS if only in target.name]
    until = time.monotonic() + 60 * minutes
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _rounds(tallies, seed, until)
    except KeyboardInterrupt:
        say("ended early")
    report(tallies)
    return sum(1 for _, tally in tallies if tally.failure)


def _rounds(tallies: list[tuple[Target, Tally]], seed: int, until: float) -> None:
    number = 0
    while time.monotonic() < until and not all(tally.failure for _, tally in tallies):
        for target, tally in tallies:
            left = until - time.monotonic()
            if tally.failure or left <= 0:
                continue
            started = time.monotonic()
            ends, tally.failure, peak = turn(target, seed + 1000 * number, min(TURN, left))
            number += 1
            tally.ends += ends
            tally.seconds += time.monotonic() - started
            tally.peak = max(tally.peak, peak)
            if tally.failure:
                say(f"\n=== {target.name}: {tally.failure}")


def report(tallies: list[tuple[Target, Tally]]) -> None:
    for target, tally in tallies:
        counts = f"{tally.ends['accepted']} accepted, {tally.ends['refused']} refused"
        verdict = "BROKEN, see above" if tally.failure else "ok"
        say(
            f"{target.name:<34} {counts}, {tally.seconds / 60:.1f} min, peak {tally.peak >> 20} MB: {verdict}"
        )
    say(f"{sum(tally.ends.total() for _, tally in tallies)} cases")


if __name__ == "__main__":
    sys.exit(1 if main(float(sys.argv[1]), *sys.argv[2:3]) else 0)
