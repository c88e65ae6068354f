"""Replies over HTTP, byte by byte, from a server on loopback."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from hypothesis import strategies as st

from tests.fuzz import edits


@dataclass(frozen=True)
class Reply:
    """What one connection gets; `{port}` in headers is the server's own."""

    status: bytes
    headers: tuple[bytes, ...]
    body: bytes
    chunked: bool
    length: bool
    edits: list[edits.Edit] = field(default_factory=list)

    def encoded(self, port: int) -> bytes:
        """Return the reply's bytes."""
        body = self.body
        # Each connection gets one reply: a client that is not told so may begin a second request on it.
        headers = [b"Connection: close", *(one.replace(b"{port}", b"%d" % port) for one in self.headers)]
        if self.chunked:
            headers.append(b"Transfer-Encoding: chunked")
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        elif self.length:
            headers.append(b"Content-Length: %d" % len(body))
        head = b"HTTP/1.1 " + self.status + b"\r\n" + b"".join(one + b"\r\n" for one in headers) + b"\r\n"
        return edits.edited(head + body, self.edits)


@contextmanager
def serving(replies: list[Reply]) -> Iterator[int]:
    """Answer one connection after the other with one of `replies`, the last for ever; yield the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
        over = threading.Event()

        def run() -> None:
            left = list(replies)
            while not over.is_set():
                with suppress(OSError):
                    connection, _address = listener.accept()
                    with connection:
                        if over.is_set():
                            return
                        connection.settimeout(2)
                        _request(connection)
                        reply = left.pop(0) if len(left) > 1 else left[0]
                        connection.sendall(reply.encoded(port))

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield port
        finally:
            over.set()
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
            thread.join()


def _request(connection: socket.socket) -> None:
    """Read a request: its head, and the body that it announces."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(1 << 16)
        if not more or (not data and more[:1] == b"\x16"):  # TLS
            return
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            missing = int(value) - len(body)
            while missing > 0 and (more := connection.recv(1 << 16)):
                missing -= len(more)


STATUSES = [
    b"200 OK",
    b"404 Not Found",
    b"301 Moved",
    b"302 Found",
    b"303 See Other",
    b"304 Not Modified",
    b"307 Temporary Redirect",
    b"308 Permanent Redirect",
    b"401 Unauthorized",
    b"403 Forbidden",
    b"407 Proxy Authentication Required",
    b"416 Range",
    b"429 Too Many",
    b"500 Error \xff\xfe",
    b"503 \x1b[2Jcleared",
    b"100 Continue",
    b"101 Switching Protocols",
    b"204 No Content",
    b"206 Partial",
    b"999 x",
    b"-1 x",
    b"2\xb20 x",
    b"",
]
LOCATIONS = [
    b"/other",
    b"http://127.0.0.1:{port}/x",
    b"",
    b"http://",
    b"http://[",
    b"http://[::1",
    b"//",
    b"http://127.0.0.1:99999999/",
    b"http://127.0.0.1:1/",
    b"http://127.0.0.1:x/",
    b"http://\xff\xfe/",
    b"http://.../",
    b"http://" + b"a" * 70 + b".invalid/",
    b"ftp://127.0.0.1/",
    b"file:///etc/passwd",
    b"javascript:1",
    b"/\xe9?\xff#\x00",
    b"http://user:secret@127.0.0.1:{port}/",
    b"http:///x",
    b"?",
    b"http://xn--/",
    b"http://\xe2\x80\xae/",
]
HEADERS = st.one_of(
    st.sampled_from(LOCATIONS).map(lambda one: b"Location: " + one),
    st.sampled_from(
        [
            b"Content-Length: 0",
            b"Content-Length: -1",
            b"Content-Length: 99999999999999999999",
            b"Content-Length: 5, 5",
            b"Content-Length: x",
            b"Content-Length: 1e3",
            b"Content-Encoding: gzip",
            b"Content-Encoding: br, zstd, x",
            b"Transfer-Encoding: chunked",
            b"Transfer-Encoding: x",
            b"Connection: close",
            b"Connection: keep-alive",
            b"Retry-After: 1e9",
            b"Set-Cookie: a=b; Expires=Thu, 99 Foo 0000 00:00:00 GMT; Path=\xff",
            b"Content-Type: application/json; charset=nonsense",
            b"Content-Type: text/html; charset=utf-16",
            b"Refresh: 0",
            b"no colon",
            b": empty",
            b" folded",
            b"A: " + b"x" * 70000,
            b"\xff: \xfe",
            b"Content-Range: bytes 5-1/0",
        ]
    ),
)
MANY = st.sampled_from([(b"A: b",) * 200])


def replies(
    headers: st.SearchStrategy[bytes], bodies: st.SearchStrategy[bytes]
) -> st.SearchStrategy[list[Reply]]:
    one = st.builds(
        Reply,
        status=st.one_of(st.just(b"200 OK"), st.sampled_from(STATUSES)),
        headers=st.one_of(st.lists(headers, max_size=3).map(tuple), MANY),
        body=bodies,
        chunked=st.booleans(),
        length=st.booleans(),
        edits=st.one_of(st.just([]), st.just([]), edits.EDITS),
    )
    return st.lists(one, min_size=1, max_size=3)
