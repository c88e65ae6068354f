"""Timings: bars on a terminal, plain lines elsewhere, nothing with `--quiet`."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

from dindkit.progress import Progress, Timing, listening

ROOT = Path(__file__).parents[1]
STEPS = [Timing("download", 0.0, 2.0), Timing("check \x1b[31m", 1.0, 1.5), Timing("pack", 2.5, 7.5)]

DRAW = """
from dindkit.progress import Progress
from tests.test_progress import STEPS
progress = Progress()
progress.steps += reversed(STEPS)
progress.draw_steps()
"""


def test_plain_lines_by_their_beginning() -> None:
    out = io.StringIO()
    progress = Progress(out)
    progress.steps += reversed(STEPS)
    progress.draw_steps()
    assert out.getvalue().splitlines() == [
        "download        from    0.0 s  for    2.0 s",
        "check \\x1b[31m  from    1.0 s  for    1.5 s",
        "pack            from    2.5 s  for    7.5 s",
    ]


def test_bars_on_a_terminal() -> None:
    """Each bar begins where its step began, and all have one scale."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "PYTHONPATH": str(ROOT)}
    environment.pop("NO_COLOR", None)
    with subprocess.Popen(
        [sys.executable, "-c", DRAW], stdout=subprocess.PIPE, stderr=theirs, env=environment
    ) as running:
        os.close(theirs)
        shown = b""
        while b"7.5 s" not in shown:
            shown += os.read(ours, 4096)
        assert running.communicate()[0] == b""
    os.close(ours)
    text = re.sub(r"\x1b\[[0-9;]*m", "", shown.decode())
    assert "\x1b" not in text
    rows = text.splitlines()
    assert [row.split()[-2:] for row in rows] == [["2.0", "s"], ["1.5", "s"], ["7.5", "s"]]
    bars = [found.span() for row in rows for found in re.finditer("[\u2580-\u259f]+", row)]
    first = bars[0][0]
    assert [(start - first, end - first) for start, end in bars] == [(0, 8), (4, 10), (10, 40)]


def test_nothing_took_time() -> None:
    out = io.StringIO()
    Progress(out).draw_steps()
    assert out.getvalue() == "no step was needed: everything was there already\n"


def test_a_step_knows_when_it_began_and_how_long_it_took() -> None:
    progress = Progress(quiet=True)
    with progress.step("outer"), progress.step("inner"):
        pass
    inner, outer = progress.steps
    assert (inner.title, outer.title) == ("inner", "outer")
    assert 0 <= outer.start <= inner.start
    assert inner.start + inner.seconds <= outer.start + outer.seconds


def test_a_listener_hears_warnings_and_silences() -> None:
    out = io.StringIO()
    with listening(quiet=True) as listener:
        progress = Progress(out)
        progress.warn("one")
        progress.note("a note")
        progress.draw_steps()
        with listening(quiet=False) as inner:
            Progress(out).warn("two")
    Progress(out).warn("three")
    assert (listener.warnings, inner.warnings) == (["one"], ["two"])
    assert out.getvalue() == "warning: two\nwarning: three\n"
