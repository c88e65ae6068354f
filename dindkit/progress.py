"""Show work in progress: bars on a terminal, plain lines everywhere else."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from dindkit.printing import as_called, visible

# Loaded where it shows something: it takes longer than all else that a short command does.
if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

#: Variables by which rich takes for a terminal what is none; CI systems set them.
FORCED = ("FORCE_COLOR", "TTY_COMPATIBLE")


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
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._console = _terminal(self._stream) if not quiet else None
        self.timings: dict[str, float] = {}
        self._said: set[str] = set()

    @contextmanager
    def step(self, title: str, total: float | None = None) -> Iterator[Step]:
        """Show `title` while the block runs, and one line with its time when it is done."""
        started = time.monotonic()
        if self._console is not None:
            with _bars(self._console) as bars:
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
        self._print(text)

    def note_once(self, text: str) -> None:
        """Print one line, unless `note_once` has printed it before."""
        if text not in self._said:
            self._said.add(text)
            self.note(text)

    def warn(self, text: str) -> None:
        """Print one line as a warning."""
        self._print(f"warning: {text}", "bold yellow")

    def _print(self, text: str, style: str = "") -> None:
        line = visible(as_called(text))
        if self._console is not None:
            self._console.print(line, style=style)
        elif not self._quiet:
            self._stream.write(f"{line}\n")  # in one piece: threads may print, too
            self._stream.flush()


def _terminal(stream: TextIO) -> Console | None:
    """Return what shows bars on `stream`, or None where that is no terminal."""
    if not stream.isatty() and not any(os.environ.get(name) for name in FORCED):
        return None
    from rich.console import Console

    # Text is printed as it is: no markup, no emoji codes.
    console = Console(file=stream, highlight=False, soft_wrap=True, markup=False, emoji=False)
    return console if console.is_terminal else None


def _bars(console: Console) -> Bars:
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    name = TextColumn("{task.description}", markup=False)
    columns = (SpinnerColumn(), name, BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True)
