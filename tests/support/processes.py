"""Processes that own something: one that lives, and one that was killed."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dindkit import owner
from dindkit.owner import Owner

ROOT = Path(__file__).parents[2]
TELL = "import time; from dindkit import owner; print(owner.current(), flush=True); time.sleep(1000)"


@contextmanager
def living(*before: str) -> Iterator[tuple[Owner, subprocess.Popen[str]]]:
    """Yield a process of our own as it calls itself; `before` are words before its command line."""
    with subprocess.Popen(
        [*before, sys.executable, "-c", TELL], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        try:
            found = owner.parse(process.stdout.readline().strip())
            assert found is not None
            yield found, process
        finally:
            process.kill()
            process.stdout.read()  # until the last that `before` started has ended, too


def killed(*before: str) -> Owner:
    """Return a process that has ended."""
    with living(*before) as (found, _):
        pass
    return found


def judged(about: Owner, *before: str, cwd: Path = ROOT) -> bool:
    """Ask a process of its own, with `before` before its command line, whether `about` is abandoned."""
    ask = "import sys; from dindkit import owner; print(owner.is_abandoned(owner.parse(sys.argv[1])))"
    argv: Sequence[str] = [*before, sys.executable, "-c", ask, str(about)]
    said = subprocess.run(argv, capture_output=True, text=True, cwd=cwd, check=True).stdout
    assert re.fullmatch("(True|False)\n", said)
    return said == "True\n"
