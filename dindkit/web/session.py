"""Requests, and the redirects that follow from them.

Unlike requests itself, this sends no logins from ~/.netrc and no cookies on its own. Every redirect is a new
request, for which credentials and proxy are chosen anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
import urllib3
from requests.exceptions import RequestException, TooManyRedirects

from dindkit.web.address import follow, is_loopback, origin
from dindkit.web.deadline import Adapter, Deadline

_HOPS = 5
#: A redirect's body of at most so many bytes is read, to keep the connection.
_SMALL = 1 << 14
#: Redirects that keep the method. GET and HEAD follow the others, too.
_SAME = {307, 308}
_ELSEWHERE = {301, 302, 303, *_SAME}

#: Given a URL, the value of the header `Authorization` to send there, or an empty string.
Login = Callable[[str], str]


class Session(requests.Session):
    """Keeps connections open; proxies and authorities come from the environment.

    Requests to this machine with an `Authorization` go through no proxy and, with `direct`, no requests to
    this machine do.
    """

    def __init__(self, connections: int = 10, *, direct: bool = False) -> None:
        super().__init__()
        self.direct = direct
        # Where this is set, requests uses neither ~/.netrc nor user names in URLs.
        self.auth = lambda request: request
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        for scheme in ("http://", "https://"):
            self.mount(scheme, Adapter(pool_connections=connections, pool_maxsize=connections))

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Follow nothing: `ask` does."""


def _anonymous(_url: str) -> str:
    return ""


def _anywhere(_url: str) -> None:
    return None


@dataclass(frozen=True)
class Request:
    """What to ask. `data` is called for each attempt, so that each sends the whole body."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    data: Callable[[], Any] = lambda: None
    login: Login = _anonymous
    #: Raises an error for a URL that must not be requested.
    check: Callable[[str], None] = _anywhere
    redirects: int = _HOPS


@contextmanager
def ask(
    session: Session, request: Request, deadline: Deadline, **options: Any
) -> Iterator[requests.Response]:
    """Yield the answer to `request`, redirects followed; its body is still to be read.

    GET and HEAD follow every redirect, other methods those that keep the method (307, 308): RFC 9110 §15.4.
    `options` are those of requests. Raises RequestException for everything that a server or a network can do
    wrong, also while the block reads the body; `deadline.failure` is set where it was too slow.
    """
    url = request.url
    try:
        for _ in range(request.redirects + 1):
            request.check(url)
            answer = _send(session, request, url, deadline, options)
            if not _leads_elsewhere(request.method, answer.status_code) or not request.redirects:
                with answer:
                    yield answer
                return
            url = follow(url, answer.headers.get("Location"))
            _finish(answer)
    except (urllib3.exceptions.HTTPError, HTTPException, OSError, ValueError) as error:
        if isinstance(error, RequestException):
            raise
        raise RequestException(error) from error
    raise TooManyRedirects(f"it leads elsewhere more than {request.redirects} times")


def _send(
    session: Session, request: Request, url: str, deadline: Deadline, options: Mapping[str, Any]
) -> requests.Response:
    headers = {"Accept-Encoding": "identity", **request.headers}
    authorization = request.login(url)
    if authorization:
        headers["Authorization"] = authorization
    host = origin(url)[1]
    stays = is_loopback(host) and (session.direct or authorization)
    with deadline.governs():
        return session.request(
            request.method,
            url,
            headers=headers,
            data=request.data(),
            stream=True,
            proxies={"no_proxy": host} if stays else None,
            allow_redirects=False,
            **options,
        )


def _leads_elsewhere(method: str, status: int) -> bool:
    return status in (_ELSEWHERE if method in ("GET", "HEAD") else _SAME)


def _finish(answer: requests.Response) -> None:
    """Free the connection: read the rest of a short body, and close the connection otherwise."""
    length = answer.headers.get("Content-Length", "")
    with suppress(urllib3.exceptions.HTTPError):
        if length.isascii() and length.isdigit() and len(length) < 6 and int(length) <= _SMALL:
            answer.raw.read(int(length), decode_content=False)
    answer.close()


def announced(answer: requests.Response) -> int | None:
    """Return the length that an answer announces, in bytes, or None where it announces none.

    Raises RequestException where it is not one number: RFC 9110 §8.6.
    """
    said = answer.headers.get("Content-Length")
    if said is None:
        return None
    lengths = {one.strip() for one in said.split(",")}
    length = lengths.pop()
    if lengths or not (length.isascii() and length.isdigit()) or len(length) > 18:
        raise RequestException(f"it announces a length of {said[:40]!r}")
    return int(length)


def body(answer: requests.Response, limit: int) -> bytes:
    """Return the body of `answer`; raises RequestException where it has more than `limit` bytes."""
    announced(answer)
    whole = bytearray()
    while chunk := answer.raw.read1(1 << 16, decode_content=False):
        whole += chunk
        if len(whole) > limit:
            raise RequestException(f"it sends more than {limit} bytes")
    return bytes(whole)
