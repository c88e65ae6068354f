"""What can go wrong with a clone, and the HTTP status that each deserves."""

from __future__ import annotations


class ClonerError(Exception):
    """Base of all; its text is the reason that the user reads."""

    status = 500


class BadUrlError(ClonerError):
    """The text is no URL that this service clones."""

    status = 400


class CloneFailedError(ClonerError):
    """Git could not clone what the URL names, or the result is larger than allowed."""

    status = 422


class CloneTimeoutError(ClonerError):
    """The clone took longer than allowed."""

    status = 504


class NotReadyError(ClonerError):
    """The Docker daemon does not answer, or does not have the git image yet."""

    status = 503
