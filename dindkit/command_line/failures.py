"""What is said of an error that ends a verb."""

from __future__ import annotations

import os
import traceback
from pathlib import Path
from types import FrameType

from invoke.exceptions import Exit

from dindkit import json_document
from dindkit.errors import DindkitError, Terminated
from dindkit.json_document import Failure, kind_of
from dindkit.printing import as_called, shortened, visible
from dindkit.project import Project


def terminated(_number: int, _frame: FrameType | None) -> None:
    """Handle SIGTERM: end as Ctrl-C does. Raises Terminated."""
    raise Terminated


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


def _of_the_system(error: OSError) -> str:
    if explanation := getattr(error, "explanation", ""):  # Docker's client raises refusals as OSErrors
        return f"The engine refuses: {str(explanation).rstrip('.')}."
    name = error.filename
    where = f": {os.fsdecode(name) if isinstance(name, bytes) else name}" if name else ""
    return f"{error.strerror or error}{where}."


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
        return Failure(json_document.SYSTEM, _of_the_system(error))
    return Failure(json_document.INTERNAL, _internal_error(error))
