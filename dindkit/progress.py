"""Show work in progress: bars on a terminal, plain lines everywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from dindkit.printing import as_called, visible


def size(count: float) -> str:
    """Render a number of bytes in decimal units, as Docker does: `101.2 MB`."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


class Step:
    """One step of long work; `advance` may be called from any thread."""

    def __init__(self, bars: Bars | None, task: TaskID | None) -> None:
        self._bars = bars
        self._task = task
        self.detail = ""  # shown behind the step's time once it is done

    def advance(self, amount: float = 1) -> None:
        """Say that `amount` more of the step's total is done."""
        if self._bars is not None and self._task is not None:
            self._bars.advance(self._task, amount)


class Progress:
    """Shows steps on `stream`, and remembers how many seconds each took (`timings`)."""

    def __init__(self, stream: TextIO | None = None, quiet: bool = False) -> None:
        # Text is printed as it is: no markup, no emoji codes.
        self.console = Console(
            file=stream or sys.stderr,
            highlight=False,
            soft_wrap=True,
            quiet=quiet,
            markup=False,
            emoji=False,
        )
        self.timings: dict[str, float] = {}
        self._said: set[str] = set()

    @contextmanager
    def step(self, title: str, total: float | None = None) -> Iterator[Step]:
        """Show `title` while the block runs, and one line with its time when it is done."""
        started = time.monotonic()
        if self.console.is_terminal:
            name = TextColumn("{task.description}", markup=False)
            columns = (SpinnerColumn(), name, BarColumn(), TimeElapsedColumn())
            with Bars(*columns, console=self.console, transient=True) as bars:
                step = Step(bars, bars.add_task(visible(title), total=total))
                yield step
        else:
            step = Step(None, None)
            yield step
        seconds = time.monotonic() - started
        self.timings[title] = self.timings.get(title, 0.0) + seconds
        self.note(f"{title:<28} {seconds:6.1f} s  {step.detail}".rstrip())

    def note(self, text: str) -> None:
        """Print one line."""
        self.console.print(visible(as_called(text)))

    def note_once(self, text: str) -> None:
        """Print one line, unless `note_once` has printed it before."""
        if text not in self._said:
            self._said.add(text)
            self.note(text)

    def warn(self, text: str) -> None:
        """Print one line as a warning."""
        self.console.print(visible(as_called(f"warning: {text}")), style="bold yellow")
