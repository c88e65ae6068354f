"""How long an answer may take: a server that is never silent for long may still never come to an end.

The timeouts of sockets, and so those of requests, are for one silence each. Here every read of a response is
held to a moment by which its head, and later its body, has to be there.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection


@dataclass(frozen=True)
class Timeouts:
    """How long to wait for a server. Times are in seconds."""

    connect: float = 10.0
    #: The longest silence within a transfer.
    silence: float = 20.0
    #: The longest wait for the whole head of an answer.
    head: float = 30.0
    #: The same after an upload, which the server may have to store; also for sending a piece of it.
    stored: float = 300.0
    #: Bytes per second, averaged over a whole body, below which it is given up.
    slowest: int = 50_000
    #: What a body may take beside the time that `slowest` gives it.
    grace: float = 60.0

    def body(self, size: int) -> float:
        """Return how long a body of `size` bytes may take."""
        return self.grace + size / self.slowest


@dataclass
class Deadline:
    """When one answer has to be there."""

    #: Seconds from the end of the request to the end of the answer's head.
    head: float = 30.0
    #: What to say of the server once the time is over; empty until then.
    failure: str = ""
    _expires: float = field(default=float("inf"), init=False)
    _complaint: str = field(default="", init=False)

    def begin_head(self) -> None:
        """From now on it is the head that has to arrive."""
        self._expires = time.monotonic() + self.head
        self._complaint = f"does not finish the head of its answer within {self.head:g} s"

    def begin_body(self, seconds: float) -> None:
        """From now on it is the body: it has `seconds`."""
        self._expires = time.monotonic() + seconds
        self._complaint = "arrives too slowly"

    def left(self) -> float:
        """Return the seconds that are left; raises TimeoutError where none are."""
        seconds = self._expires - time.monotonic()
        if seconds <= 0:
            self.failure = self._complaint
            raise TimeoutError(self._complaint)
        return seconds

    @contextmanager
    def governs(self) -> Iterator[None]:
        """Hold to this deadline the answers to all requests that are sent in the block."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)


_current: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


class Adapter(HTTPAdapter):
    """Carries requests over connections whose answers keep to the current deadline."""

    def init_poolmanager(self, *words: Any, **options: Any) -> None:
        """Make the pools of connections."""
        super().init_poolmanager(*words, **options)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def build_response(self, req: Any, resp: Any) -> Any:
        """Return the answer without cookies: http.cookiejar warns, at length, of those it cannot read."""
        original = getattr(resp, "_original_response", None)
        if original is not None and original.msg is not None:
            del original.msg["Set-Cookie"], original.msg["Set-Cookie2"]
        return super().build_response(req, resp)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        """Make the pools of connections through a proxy."""
        manager = super().proxy_manager_for(proxy, **options)
        if not proxy.lower().startswith("socks"):
            manager.pool_classes_by_scheme = _POOLS
        return manager


class _Reader(io.RawIOBase):
    """Reads a socket, in which no read outlasts the deadline nor the timeout that the socket has now."""

    def __init__(self, connection: socket.socket, deadline: Deadline) -> None:
        self._connection = connection
        self._deadline = deadline
        self._silence = connection.gettimeout()
        # It counts as a user of the socket, which stays open until it is closed, too.
        self._raw = connection.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline.left()
        self._connection.settimeout(left if self._silence is None else min(left, self._silence))
        try:
            return self._raw.readinto(buffer)
        except TimeoutError:
            self._deadline.left()  # if it is the deadline's end, say so
            raise

    def close(self) -> None:
        with suppress(OSError):
            self._connection.settimeout(self._silence)  # it may send the next request
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *words: Any, **options: Any) -> None:
        super().__init__(sock, *words, **options)
        deadline = _current.get()
        if deadline:
            deadline.begin_head()
            self.fp.close()
            self.fp = io.BufferedReader(_Reader(sock, deadline))


class _Connection(HTTPConnection):
    response_class = _Response


class _TlsConnection(HTTPSConnection):
    response_class = _Response


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


_POOLS = {"http": _Pool, "https": _TlsPool}
