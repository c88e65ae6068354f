"""What is said of an error that ends a verb."""

from __future__ import annotations

import errno
import os
import signal
import traceback
from pathlib import Path
from types import FrameType

from invoke.exceptions import Exit

from dindkit import json_document
from dindkit.errors import DindkitError, Terminated
from dindkit.files import in_the_way
from dindkit.interrupts import ENDS
from dindkit.json_document import Failure, kind_of
from dindkit.printing import as_called, shortened, visible
from dindkit.project import Project

#: What can be done about an error of the system, by its number.
NEXT_STEPS = {
    errno.EMFILE: "Allow this process more open files: ulimit -n",
    errno.EFBIG: "Allow this process larger files: ulimit -f",
}


def terminated(_number: int, _frame: FrameType | None) -> None:
    """Handle SIGTERM and SIGHUP: end as Ctrl-C does. Raises Terminated."""
    raise Terminated


def handle_ends() -> None:
    """Let the signals that end a program raise Terminated; nohup(1) has SIGHUP ignored, and it stays so."""
    for number in ENDS:
        if number == signal.SIGTERM or signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, terminated)


def _internal_error(error: BaseException) -> str:
    """Write the traceback to a file for maintainers, and return the sentence for the user."""
    try:
        report = Project.here().state / "last-error.txt"
        report.parent.mkdir(parents=True, exist_ok=True)
        said = "".join(traceback.format_exception(error))
        report.write_text(said, encoding="utf-8", errors="backslashreplace")
    except (OSError, DindkitError):
        return f"internal error: {error!r}."
    return f"internal error: {error!r}. The details are in {report}; please report them."


def _of_the_system(error: OSError) -> Failure:
    if explanation := getattr(error, "explanation", ""):  # Docker's client raises refusals as OSErrors
        return Failure(json_document.SYSTEM, f"The engine refuses: {str(explanation).rstrip('.')}.")
    if wrong := in_the_way(error, _own_folders()):
        return Failure(json_document.SYSTEM, wrong.cause, wrong.next_step)
    name = error.filename
    where = f": {os.fsdecode(name) if isinstance(name, bytes) else name}" if name else ""
    return Failure(json_document.SYSTEM, f"{error.strerror or error}{where}.", _what_next(error))


def _own_folders() -> list[Path]:
    try:
        project = Project.here()
    except (OSError, DindkitError):
        return []
    return [project.state, project.cache]


def _what_next(error: OSError) -> str:
    return NEXT_STEPS.get(error.errno, "") if error.errno else ""


def _lacks_memory(error: BaseException | None) -> bool:
    """Tell whether memory or threads ran out, which may have led to other errors on the way."""
    while error is not None:
        if isinstance(error, MemoryError) or "can't start new thread" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _is_here() -> bool:
    try:
        Path.cwd()
    except FileNotFoundError:
        return False
    return True


def end(sentence: str, code: int = 1) -> Exit:
    """Return what Invoke is to be given: it prints `sentence` and ends with `code`."""
    return Exit(visible(as_called(sentence)), code=code)


def failure_of(error: BaseException) -> Failure:
    """Return what is said of `error`, which has ended a verb."""
    if isinstance(error, DindkitError):
        cause, next_step = shortened(as_called(error.cause)), as_called(error.next_step)
        return Failure(kind_of(error), cause, next_step, error.exit_code)
    if isinstance(error, KeyboardInterrupt):
        return Failure(json_document.INTERRUPTED, "interrupted; what was there before is unchanged.")
    if isinstance(error, FileNotFoundError) and error.filename is None and not _is_here():
        cause, next_step = "The folder that this was called in is gone.", "Change to one that is there."
        return Failure(json_document.SYSTEM, cause, next_step)
    if isinstance(error, OSError):
        return _of_the_system(error)
    if _lacks_memory(error):
        cause = "There is not enough memory, or this process may not take more of it or start more threads."
        return Failure(json_document.SYSTEM, cause, "Free some, or raise the limits: ulimit -v, ulimit -u")
    return Failure(json_document.INTERNAL, _internal_error(error))
