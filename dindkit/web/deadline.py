"""Timeouts for whole answers: a server that sends a byte now and then must not keep us waiting forever.

The timeouts of sockets, and so of requests, are for a single read. Here every read of a response has a
deadline as well, first for the whole head, then for the whole body.
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
    """The time by which one answer must have arrived."""

    #: Seconds from the end of the request to the end of the answer's head.
    head: float = 30.0
    #: Once the time is over, what the server did wrong; empty until then.
    failure: str = ""
    _expires: float = field(default=float("inf"), init=False)
    _complaint: str = field(default="", init=False)

    def begin_head(self) -> None:
        """Start the time for the head."""
        self._expires = time.monotonic() + self.head
        self._complaint = f"does not finish the head of its answer within {self.head:g} s"

    def begin_body(self, seconds: float) -> None:
        """Start the time for the body: `seconds`."""
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
        """Apply this deadline to the answers to all requests in the block."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)


_current: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


class Adapter(HTTPAdapter):
    """Sends requests over connections that apply the current deadline."""

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
    """Reads a socket; each read ends at the deadline, or after the socket's own timeout if that is sooner."""

    def __init__(self, connection: socket.socket, deadline: Deadline) -> None:
        self._connection = connection
        self._deadline = deadline
        self._silence = connection.gettimeout()
        # While this file is open, the socket stays open, too.
        self._raw = connection.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline.left()
        self._connection.settimeout(left if self._silence is None else min(left, self._silence))
        try:
            return self._raw.readinto(buffer)
        except TimeoutError:
            self._deadline.left()  # raises where the deadline is over
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
