"""Download one file over HTTP from a server that may be slow, broken or hostile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import requests
import urllib3
from requests.exceptions import RequestException

from dindkit.errors import UnavailableError
from dindkit.web import login
from dindkit.web.address import origin
from dindkit.web.deadline import Deadline, Timeouts
from dindkit.web.session import Request, Session, announced, ask

Result = TypeVar("Result")

CHUNK = 1 << 16  # bytes

#: Status codes after which another try may succeed.
PASSING = {408, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class RetryPolicy(Timeouts):
    """How long to wait for a server, and how often to ask it. Times are in seconds."""

    tries: int = 4
    #: In addition, tries that broke off in the middle: that server works, and the next try may succeed.
    breaks: int = 12
    #: Before the second try; doubled before each further one.
    pause: float = 0.5


class TransferError(UnavailableError):
    """A transfer failed.

    `gone`: the server says that there is no such file; `passing`: another try may succeed; `broken`: it broke
    off in the middle.
    """

    def __init__(
        self, cause: str, *, gone: bool = False, passing: bool = False, broken: bool = False
    ) -> None:
        super().__init__(f"{cause}.", "Check the network and try again.")
        self.reason = cause
        self.gone = gone
        self.passing = passing
        self.broken = broken


def session(connections: int) -> Session:
    """Return a session that keeps up to `connections` open to each server; close it after use."""
    return Session(connections)


def stream(client: Session, url: str, limit: int, timeouts: Timeouts, exact: bool = False) -> Iterator[bytes]:
    """Yield the body of `url`: at most `limit` bytes or, with `exact`, exactly so many.

    A password that ~/.netrc has for this server is sent to it alone, and only over TLS or within this
    machine. Raises TransferError for everything that a server or a network can do wrong.
    """
    count = 0
    deadline = Deadline(timeouts.head)
    request = Request("GET", url, login=lambda there: _login(url, there))
    try:
        with ask(client, request, deadline, timeout=(timeouts.connect, timeouts.silence)) as response:
            size = _check_head(url, response, limit, exact)
            deadline.begin_body(timeouts.body(size))
            # read1 returns what has arrived, so that the reader can stop at any time.
            while chunk := response.raw.read1(CHUNK, decode_content=False):
                count += len(chunk)
                if count > limit:
                    raise TransferError(f"{url} sends more than {limit} bytes", passing=True)
                deadline.left()
                yield chunk
            if exact and count != limit:
                raise TransferError(f"{url} ended after {count} of {limit} bytes", passing=True, broken=True)
    except RequestException as error:
        if deadline.failure:
            raise TransferError(f"{url} {deadline.failure}", passing=True) from None
        silent = isinstance(_innermost(error), TimeoutError | urllib3.exceptions.TimeoutError)
        cause = f"{url} cannot be read ({_words(error)})"
        raise TransferError(cause, passing=True, broken=count > 0 and not silent) from None


def _login(asked: str, url: str) -> str:
    """Return the login for `url`, where a request for `asked` has led; none for another server."""
    return login.from_netrc(url) if origin(url) == origin(asked) else ""


def retry(policy: RetryPolicy, attempt: Callable[[], Result]) -> Result:
    """Call `attempt` until it succeeds, fails for good, or no tries are left. Raises TransferError."""
    failed = broken = 0
    while True:
        try:
            return attempt()
        except TransferError as error:
            failed, broken = failed + (not error.broken), broken + error.broken
            if not error.passing or failed == policy.tries or broken == policy.breaks:
                raise
        time.sleep(policy.pause * 2 ** max(failed - 1, 0))


def _check_head(url: str, response: requests.Response, limit: int, exact: bool) -> int:
    """Return the largest number of bytes to expect; raises TransferError for an answer without the file."""
    status = response.status_code
    if status != 200:
        raise TransferError(
            f"{url} answers {status} {response.reason[:80]}".rstrip(),
            gone=status in (404, 410),
            passing=status in PASSING,
        )
    length = announced(response)
    if length is not None and (length != limit if exact else length > limit):
        raise TransferError(f"{url} announces {length} bytes instead of {limit}", passing=True)
    return limit if length is None else length


def _innermost(error: BaseException) -> object:
    """Return the innermost cause, without the exceptions that wrap it."""
    while isinstance(error, RequestException | urllib3.exceptions.HTTPError):
        inner = getattr(error, "reason", None) or (error.args[0] if error.args else None)
        if not isinstance(inner, BaseException):
            break
        error = inner
    return error


def _words(error: BaseException) -> str:
    """Return the cause in a few words."""
    inner = _innermost(error)
    return str(inner).rsplit(": ", 1)[-1][:300] or type(inner).__name__
