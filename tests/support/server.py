"""A web server on loopback that can be told to misbehave."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote


@dataclass
class Faults:
    """What the server does wrong, by path (`/dists/…`); may be changed while it runs."""

    gone: set[str] = field(default_factory=set)
    #: Status to answer with instead, for as many times as given: path -> [503, 503].
    status: dict[str, list[int]] = field(default_factory=dict)
    #: Sends half of the file, then nothing for `stall_seconds`.
    stall: set[str] = field(default_factory=set)
    stall_seconds: float = 60.0
    #: Sends one byte now and then.
    drip: set[str] = field(default_factory=set)
    #: Announces the whole length, sends half, closes.
    truncate: set[str] = field(default_factory=set)
    #: Sends half without announcing a length, closes.
    cut: set[str] = field(default_factory=set)
    #: Announces this many bytes more than the file has (fewer if negative), and sends that many.
    longer: dict[str, int] = field(default_factory=dict)
    #: Sends zeros for as long as the client listens, without announcing a length.
    endless: set[str] = field(default_factory=set)
    #: Changes a byte in the middle.
    flip: set[str] = field(default_factory=set)
    #: Every Nth reply ends in the middle of the body; 0 for none.
    drop_every: int = 0


@dataclass
class Server:
    """A running server: its address, its faults, and the paths that were asked for, in order."""

    url: str
    faults: Faults
    requests: list[str]


@contextmanager
def serve(folder: Path) -> Iterator[Server]:
    """Serve `folder` until the block ends."""
    server = _Listener(folder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield Server(f"http://127.0.0.1:{server.server_port}", server.faults, server.requests)
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Listener(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.faults = Faults()
        self.requests: list[str] = []
        self.over = threading.Event()
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Listener

    def do_GET(self) -> None:
        path = unquote(self.path)
        faults, requests = self.server.faults, self.server.requests
        requests.append(path)
        drop = bool(faults.drop_every) and len(requests) % faults.drop_every == 0
        file = self.server.folder / path.lstrip("/")
        if faults.status.get(path):
            self._answer(faults.status[path].pop(0), b"")
        elif path in faults.endless:
            self._endless()
        elif path in faults.gone or not file.is_file():
            self._answer(404, b"")
        else:
            self._file(path, file.read_bytes(), drop)

    def _file(self, path: str, body: bytes, drop: bool) -> None:
        faults = self.server.faults
        middle = len(body) // 2
        if path in faults.flip:
            body = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
        extra = faults.longer.get(path, 0)
        body = body + b"\0" * extra if extra >= 0 else body[:extra]
        if path in faults.cut:
            self._cut(body[:middle])
            return
        if path in faults.drip:
            self._drip(body)
            return
        if not drop and path not in faults.truncate | faults.stall:
            self._answer(200, body)
            return
        self._head(200, len(body))
        self.wfile.write(body[:middle])
        self.wfile.flush()
        if path in faults.stall:
            self.server.over.wait(faults.stall_seconds)
        self.close_connection = True

    def _cut(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        self.wfile.write(body)

    def _drip(self, body: bytes) -> None:
        self._head(200, len(body))
        for position in range(len(body)):
            self.wfile.write(body[position : position + 1])
            if self.server.over.wait(0.02):
                return

    def _endless(self) -> None:
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        while not self.server.over.is_set():
            self.wfile.write(b"\0" * 65536)
            time.sleep(0.001)

    def _answer(self, status: int, body: bytes) -> None:
        self._head(status, len(body))
        self.wfile.write(body)

    def _head(self, status: int, length: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def handle(self) -> None:
        with suppress(ConnectionError):  # the client had enough
            super().handle()

    def log_message(self, *_words: object) -> None:
        pass
