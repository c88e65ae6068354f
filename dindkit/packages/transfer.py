"""One file over HTTP, from a server that may be slow, broken or hostile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import requests
import urllib3
from requests.adapters import HTTPAdapter

from dindkit.errors import UnavailableError

Result = TypeVar("Result")

CHUNK = 1 << 16  # bytes

#: Answers after which the same question may be worth asking again.
PASSING = {408, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class Patience:
    """How long to bear with a server. Times are in seconds."""

    tries: int = 4
    #: Beside those, tries that may break off in the middle: such a server is there, and the next may succeed.
    breaks: int = 12
    #: Before the second try; doubled before each further one.
    pause: float = 0.5
    connect: float = 10.0
    #: The longest silence within a transfer.
    silence: float = 20.0
    #: Bytes per second, averaged over a whole transfer, below which it is given up.
    slowest: int = 4096


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


def session(connections: int) -> requests.Session:
    """Return a session that keeps up to `connections` open to each server; close it after use."""
    new = requests.Session()
    new.max_redirects = 5
    for scheme in ("http://", "https://"):
        new.mount(scheme, HTTPAdapter(pool_connections=connections, pool_maxsize=connections))
    return new


def stream(
    client: requests.Session, url: str, limit: int, patience: Patience, exact: bool = False
) -> Iterator[bytes]:
    """Yield the body of `url`: at most `limit` bytes, or, with `exact`, that many and no other number.

    Raises TransferError for everything that a server or a network can do wrong.
    """
    count = 0
    try:
        with client.get(
            url,
            stream=True,
            timeout=(patience.connect, patience.silence),
            headers={"Accept-Encoding": "identity"},
        ) as response:
            _check_head(url, response, limit, exact)
            deadline = time.monotonic() + patience.silence + limit / patience.slowest
            # read1 returns what has arrived: a server that drips bytes cannot hold us beyond the deadline.
            while chunk := response.raw.read1(CHUNK, decode_content=False):
                count += len(chunk)
                if count > limit:
                    raise TransferError(f"{url} sends more than {limit} bytes", passing=True)
                if time.monotonic() > deadline:
                    raise TransferError(f"{url} arrives too slowly", passing=True)
                yield chunk
            if exact and count != limit:
                raise TransferError(f"{url} ended after {count} of {limit} bytes", passing=True, broken=True)
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        silent = isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError)
        cause = f"{url} cannot be read ({_innermost(error)})"
        raise TransferError(cause, passing=True, broken=count > 0 and not silent) from None


def persist(patience: Patience, attempt: Callable[[], Result]) -> Result:
    """Call `attempt` until it succeeds, fails for good, or patience is at its end. Raises TransferError."""
    failed = broken = 0
    while True:
        try:
            return attempt()
        except TransferError as error:
            failed, broken = failed + (not error.broken), broken + error.broken
            if not error.passing or failed == patience.tries or broken == patience.breaks:
                raise
        time.sleep(patience.pause * 2 ** max(failed - 1, 0))


def _check_head(url: str, response: requests.Response, limit: int, exact: bool) -> None:
    status = response.status_code
    if status != 200:
        raise TransferError(
            f"{url} answers {status} {response.reason}", gone=status in (404, 410), passing=status in PASSING
        )
    length = response.headers.get("Content-Length", "")
    if length.isdigit() and (int(length) != limit if exact else int(length) > limit):
        raise TransferError(f"{url} announces {length} bytes instead of {limit}", passing=True)


def _innermost(error: BaseException) -> str:
    """Return the cause below the layers of wrapping, in a few words."""
    while isinstance(error, requests.RequestException | urllib3.exceptions.HTTPError):
        inner = getattr(error, "reason", None) or (error.args[0] if error.args else None)
        if not isinstance(inner, BaseException):
            break
        error = inner
    words = str(error).rsplit(": ", 1)[-1]
    return words or type(error).__name__
