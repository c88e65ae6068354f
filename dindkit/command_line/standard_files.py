"""Standard input, output and error: closed ones, full ones, those that nobody reads any more."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from invoke.exceptions import Exit

from dindkit import json_document
from dindkit.json_document import Failure


def escape_what_the_encoding_lacks() -> None:
    """Let standard output escape the characters that its encoding lacks, instead of failing."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def reader_has_gone() -> Exit:
    """Return how a verb ends whose standard output nobody reads any more.

    What is still in the buffer goes nowhere, or else Python fails once more when it ends, with an exit code
    of its own.
    """
    drop_output()
    sys.stderr.close()
    return Exit(code=1)


def open_standard_files() -> None:
    """Open those of the three standard files that are closed: else the next file that is opened is one.

    Messages go nowhere then. But a result that cannot be written is an error, and so output is not for
    writing: that fails as it would have.
    """
    for number, flags in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.dup2(os.open(os.devnull, flags), number)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115 - for as long as this process runs
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def drop_output() -> None:
    """Let what is still to be written to standard output go nowhere."""
    with contextlib.suppress(io.UnsupportedOperation):  # of a text in memory
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def lines_aside(*, quiet: bool) -> Iterator[None]:
    """In the block, print what goes to standard output on standard error; with `quiet` nowhere."""
    with contextlib.ExitStack() as stack:
        aside: TextIO = stack.enter_context(Path(os.devnull).open("w")) if quiet else sys.stderr
        stack.enter_context(contextlib.redirect_stdout(aside))
        yield


def write_document(
    verb: str, found: Mapping[str, Any], failure: Failure | None, warnings: Sequence[str]
) -> None:
    """Print the document of `verb`: the result `found`, or the failure. Raises Exit where nobody reads."""
    try:
        json_document.write(json_document.document(verb, found, failure, warnings), sys.stdout)
        sys.stdout.flush()
    except BrokenPipeError:
        raise reader_has_gone() from None
