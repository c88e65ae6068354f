"""The edge between the package and its user: Invoke tasks that end in a sentence, never in a traceback."""

from __future__ import annotations

import functools
import io
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

from invoke.exceptions import Exit
from invoke.tasks import task

from dindkit.errors import DindkitError, Terminated
from dindkit.printing import visible
from dindkit.project import Project


def _terminated(_number: int, _frame: FrameType | None) -> None:
    raise Terminated


def _internal_error(error: Exception) -> str:
    """Keep the traceback where a maintainer finds it, and return the sentence for the user."""
    report = Project.here().state / "last-error.txt"
    try:
        report.parent.mkdir(parents=True, exist_ok=True)
        said = "".join(traceback.format_exception(error))
        report.write_text(said, encoding="utf-8", errors="backslashreplace")
    except OSError:
        return f"internal error: {error!r}."
    return f"internal error: {error!r}. The details are in {report}; please report them."


def _of_the_system(error: OSError) -> str:
    name = error.filename
    where = f": {os.fsdecode(name) if isinstance(name, bytes) else name}" if name else ""
    return f"{error.strerror or error}{where}."


def _end(sentence: str, code: int = 1) -> Exit:
    return Exit(visible(sentence), code=code)


def verb(
    *,
    name: str = "",
    help: dict[str, str] | None = None,  # noqa: A002 - Invoke's own word
    positional: Sequence[str] = (),
    iterable: Sequence[str] = (),
) -> Callable[[Callable[..., None]], Any]:
    """Make an Invoke task of a function: exit code 0 only for success, errors as one or two sentences.

    `name`, `help` (option to text), `positional` and `iterable` are Invoke's own.
    """

    def decorate(body: Callable[..., None]) -> Any:
        @functools.wraps(body)
        def edge(*args: Any, **kwargs: Any) -> None:
            signal.signal(signal.SIGTERM, _terminated)
            if isinstance(sys.stdout, io.TextIOWrapper):
                sys.stdout.reconfigure(errors="backslashreplace")  # a locale may know few characters
            try:
                body(*args, **kwargs)
                sys.stdout.flush()
            except Exit:
                raise
            except DindkitError as error:
                raise _end(f"error: {error}", error.exit_code) from None
            except KeyboardInterrupt:
                raise Exit("interrupted; what was there before is unchanged.", code=1) from None
            except BrokenPipeError:
                sys.stderr.close()  # the reader of our output went away: nothing is left to say
                raise Exit(code=1) from None
            except OSError as error:
                raise _end(f"error: {_of_the_system(error)}") from None
            except Exception as error:
                raise _end(_internal_error(error)) from None

        return task(
            edge,
            name=name or None,
            help=help or {},
            positional=list(positional),
            iterable=list(iterable),
        )

    return decorate
