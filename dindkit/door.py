"""The edge between the package and its user: Invoke tasks that end in a sentence, never in a traceback."""

from __future__ import annotations

import functools
import signal
import sys
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any

import invoke

from dindkit.errors import DindkitError, Terminated
from dindkit.project import Project


def _terminated(_number: int, _frame: FrameType | None) -> None:
    raise Terminated


def _internal_error(error: Exception) -> str:
    """Keep the traceback where a maintainer finds it, and return the sentence for the user."""
    report = Project.here().state / "last-error.txt"
    try:
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text("".join(traceback.format_exception(error)))
    except OSError:
        return f"internal error: {error!r}."
    return f"internal error: {error!r}. The details are in {report}; please report them."


def _out_of_space(error: OSError) -> str:
    return f"{error.strerror or error}: {error.filename or 'the state or cache folder'}."


def verb(body: Callable[..., None]) -> Any:
    """Make an Invoke task of `body`: exit code 0 only for success, errors as one or two sentences."""

    @functools.wraps(body)
    def edge(*args: Any, **kwargs: Any) -> None:
        signal.signal(signal.SIGTERM, _terminated)
        try:
            body(*args, **kwargs)
        except DindkitError as error:
            raise invoke.Exit(f"error: {error}", code=error.exit_code) from None
        except KeyboardInterrupt:
            raise invoke.Exit("interrupted; what was there before is unchanged.", code=1) from None
        except BrokenPipeError:
            sys.stderr.close()  # the reader of our output went away: nothing is left to say
            raise invoke.Exit(code=1) from None
        except invoke.Exit:
            raise
        except OSError as error:
            raise invoke.Exit(f"error: {_out_of_space(error)}", code=1) from None
        except Exception as error:
            raise invoke.Exit(_internal_error(error), code=1) from None

    return invoke.task(edge)
