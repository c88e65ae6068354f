"""The errors of this package: each has a cause and a next step for the user."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `Did you mean …? ` with the `known` words that resemble `word`, or an empty string."""
    names = sorted(set(known))
    close = [name for name in names if name.startswith(f"{word}.")] or difflib.get_close_matches(
        word, names, 2
    )
    return f"Did you mean {' or '.join(close)}? " if close else ""


class DindkitError(Exception):
    """Something that the user can understand and act on.

    Rendered as one or two sentences: the cause, then the next step. Raise it where the cause is known;
    `dindkit.command_line.failures` is the only place that words it.
    """

    def __init__(self, cause: str, next_step: str = "", exit_code: int = 1) -> None:
        super().__init__(cause)
        self.cause = cause
        self.next_step = next_step
        self.exit_code = exit_code

    def __str__(self) -> str:
        return f"{self.cause} {self.next_step}".strip()


class TrustError(DindkitError):
    """A signature, fingerprint, hash or date is not what was pinned."""


class UnavailableError(DindkitError):
    """A file or service that is needed is not available at the moment."""


class RecipeError(DindkitError):
    """A recipe or a lock is wrong, or asks for something impossible."""


class EngineError(DindkitError):
    """A Docker engine is missing, or does not do what was asked of it."""


class ToolMissingError(DindkitError):
    """A program of the host is not installed."""


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP, raised in the main thread so that it unwinds exactly as Ctrl-C does."""


class ArchiveError(DindkitError):
    """A file is not an image archive, or not a whole one; or an image is not what it should be."""

    def __init__(self, cause: str, next_step: str = "Write it anew: invoke build, or docker save.") -> None:
        super().__init__(cause, next_step)


class DamagedError(ArchiveError):
    """A file of the state folder is not what it was."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} is damaged or forged: it is not what was built.", "It is built anew by: invoke build"
        )
        self.path = path
