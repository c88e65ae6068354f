"""A server that sends exactly the bytes that a test gives it, under names of the test's own."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Heard:
    """A request: its first line, its headers by name in lower case, and its body."""

    line: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def secrets(self) -> set[str]:
        """Which headers it has that carry credentials."""
        return set(self.headers) & {"authorization", "proxy-authorization", "cookie"}


@dataclass
class RawServer:
    """A running server, and what it has heard, in order."""

    host: str
    port: int
    scheme: str = "http"
    heard: list[Heard] = field(default_factory=list)
    #: Set when the test is over; a server that keeps a client waiting waits for it.
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def netloc(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.netloc}"

    def named(self, name: str) -> str:
        """Return its URL under another name."""
        return f"{self.scheme}://{name}:{self.port}"

    def secrets(self) -> list[set[str]]:
        return [heard.secrets for heard in self.heard]


#: Gets the request; returns the bytes of the answer, or writes them itself.
Reply = Callable[[Heard, socket.socket, threading.Event], bytes | None]


def answer(status: str, body: bytes = b"", **headers: str) -> bytes:
    """Return an answer as it should be; `Content_Type` names the header `Content-Type`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *(f"{k}: {v}" for k, v in named.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def always(reply: bytes) -> Reply:
    """Answer everything with the same bytes."""
    return lambda _heard, _connection, _over: reply


@contextmanager
def serve_raw(
    reply: Reply, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> Iterator[RawServer]:
    """Answer every request on loopback with what `reply` gives, until the block ends."""
    with socket.create_server((host, 0)) as listener:
        server = RawServer(host, listener.getsockname()[1], "https" if tls else "http")
        threading.Thread(target=_accept, args=(listener, server, reply, tls), daemon=True).start()
        try:
            yield server
        finally:
            server.over.set()
            listener.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket, server: RawServer, reply: Reply, tls: ssl.SSLContext | None) -> None:
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_talk, args=(connection, server, reply, tls), daemon=True).start()


def _talk(connection: socket.socket, server: RawServer, reply: Reply, tls: ssl.SSLContext | None) -> None:
    with suppress(OSError), connection:
        talking = tls.wrap_socket(connection, server_side=True) if tls else connection
        with talking, talking.makefile("rb") as stream:
            while heard := _hear(stream):
                server.heard.append(heard)
                said = reply(heard, talking, server.over)
                if said is None:
                    return
                talking.sendall(said)


def _hear(stream: Any) -> Heard | None:
    first = stream.read(1)
    if first in (b"", b"\x16"):  # the end, or a client that begins with TLS
        return None
    line = (first + stream.readline()).decode("latin-1").strip()
    headers = {}
    while field_line := stream.readline().decode("latin-1").strip():
        name, _, value = field_line.partition(":")
        headers[name.lower()] = value.strip()
    return Heard(line, headers, stream.read(int(headers.get("content-length", 0))))


def give_names(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let `names` be names of this machine, as a name service would; what is decided by name is not."""
    real = socket.getaddrinfo

    def lookup(host: Any, *words: Any, **options: Any) -> Any:
        return real("127.0.0.1" if host in names else host, *words, **options)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)


def certificate(folder: Path, *names: str) -> tuple[ssl.SSLContext, Path]:
    """Make a certificate that signs itself; return a server's context with it, and the file."""
    folder.mkdir(parents=True, exist_ok=True)
    chain, key = folder / "cert.pem", folder / "key.pem"
    alternatives = ",".join(f"IP:{name}" if name[0].isdigit() else f"DNS:{name}" for name in names)
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    words += ["-subj", "/CN=test", "-addext", f"subjectAltName={alternatives}", "-days", "2"]
    subprocess.run([*words, "-out", chain, "-keyout", key], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    return context, chain
