"""Show work in progress: bars on a terminal, plain lines everywhere else."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO

from dindkit.printing import as_called, shortened, visible

# Loaded where it shows something: it takes longer than all else that a short command does.
if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID
    from rich.table import Table

#: Variables by which rich takes for a terminal what is none; CI systems set them.
FORCED = ("FORCE_COLOR", "TTY_COMPATIBLE")

#: Columns of a bar of `draw_steps`.
BAR_WIDTH = 40


def size(count: float) -> str:
    """Render a number of bytes in decimal units, as Docker does: `101.2 MB`."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


@dataclass(frozen=True)
class Listener:
    """What one verb wants of every Progress that is made while it runs."""

    #: Print nothing: `--quiet`.
    quiet: bool = False
    #: The warnings until now.
    warnings: list[str] = field(default_factory=list)


_LISTENER: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def listening(*, quiet: bool) -> Iterator[Listener]:
    """Keep the warnings of every Progress that is made in the block; with `quiet` these print nothing."""
    listener = Listener(quiet)
    token = _LISTENER.set(listener)
    try:
        yield listener
    finally:
        _LISTENER.reset(token)


@dataclass(frozen=True)
class Timing:
    """When a step began, in seconds since its Progress was made, and how many seconds it took."""

    title: str
    start: float
    seconds: float


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
    """Shows steps on `stream`, and remembers how many seconds each took (`timings`, `steps`)."""

    def __init__(self, stream: TextIO | None = None, quiet: bool = False) -> None:
        self._listener = _LISTENER.get() or Listener()
        self._stream = stream or sys.stderr
        self._quiet = quiet or self._listener.quiet
        self._console = _terminal(self._stream) if not self._quiet else None
        self.timings: dict[str, float] = {}
        #: In the order in which they ended.
        self.steps: list[Timing] = []
        self._made = time.monotonic()
        self._said: set[str] = set()

    @property
    def quiet(self) -> bool:
        """Whether nothing is printed."""
        return self._quiet

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
        self.steps.append(Timing(title, started - self._made, seconds))
        self.note(f"{title:<28} {seconds:6.1f} s  {step.detail}".rstrip())

    def note(self, text: str) -> None:
        """Print one line."""
        self._print(text)

    def draw_steps(self) -> None:
        """Print when each step began and how long it took: as bars on a terminal, else as plain lines."""
        end = max((step.start + step.seconds for step in self.steps), default=0.0)
        if not self.steps:
            self.note("no step was needed: everything was there already")
        width = max((len(visible(step.title)) for step in self.steps), default=0)
        for step in sorted(self.steps, key=lambda one: one.start):
            title = visible(step.title).ljust(width)
            if self._console is not None:
                self._console.print(_row(title, step, end))
            else:
                self.note(f"{title}  from {step.start:6.1f} s  for {step.seconds:6.1f} s")

    def note_once(self, text: str) -> None:
        """Print one line, unless `note_once` has printed it before."""
        if text not in self._said:
            self._said.add(text)
            self.note(text)

    def warn(self, text: str) -> None:
        """Print one line as a warning."""
        text = shortened(text)
        self._listener.warnings.append(as_called(text))
        self._print(f"warning: {text}", "bold yellow")

    def _print(self, text: str, style: str = "") -> None:
        line = visible(as_called(text))
        if self._console is not None:
            self._console.print(line, style=style)
        elif not self._quiet:
            try:
                self._stream.write(f"{line}\n")  # in one piece: threads may print, too
                self._stream.flush()
            except BrokenPipeError:
                raise
            except OSError:
                return  # a full disk, say: the work goes on without words


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


def _row(title: str, step: Timing, end: float) -> Table:
    """Return a line of `draw_steps`: a step's bar between 0 and `end` seconds."""
    from rich.bar import Bar
    from rich.table import Table
    from rich.text import Text

    bar = Bar(end, step.start, step.start + step.seconds, width=BAR_WIDTH, color="cyan")
    row = Table.grid(padding=(0, 1))
    row.add_row(Text(title), bar, f"{step.seconds:.1f} s")
    return row
