"""A git server on this host: real `git http-backend` behind Python's HTTP server."""

from __future__ import annotations

import base64
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

AUTHOR = ("-c", "user.name=A Maker", "-c", "user.email=maker@example.org")


@dataclass(frozen=True)
class GitServer:
    """A running server; repositories that are made in `root` are served at `url`/NAME."""

    root: Path
    address: str
    port: int

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self.port}"

    def add(self, name: str, files: dict[str, bytes], links: dict[str, str] | None = None) -> str:
        """Make repository `name` of one commit with `files` and symbolic `links`, and return its URL."""
        tree = self.root / name
        for path, content in files.items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_bytes(content)
        for path, target in (links or {}).items():
            (tree / path).symlink_to(target)
        for words in (
            ("init", "--quiet"),
            ("add", "--all"),
            (*AUTHOR, "commit", "--quiet", "--message=start"),
        ):
            subprocess.run(["git", *words], cwd=tree, check=True)
        return f"{self.url}/{name}"


@contextmanager
def serve(root: Path, address: str, token: str = "") -> Iterator[GitServer]:
    """Serve the repositories below `root` at `address`, only to who shows `token` where one is given."""
    handler = type("Handler", (_Handler,), {"root": root, "token": token})
    server = ThreadingHTTPServer((address, 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield GitServer(root, address, server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    """Hands each request to `git http-backend` as CGI (RFC 3875)."""

    root: Path
    token: str

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing: pytest shows what matters."""

    def _answer(self) -> None:
        if self.token and not self._is_known():
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        path, _, query = self.path.partition("?")
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            # The repositories are the test's own, whoever it runs as.
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": self.headers.get("Content-Length", "0"),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "HTTP_GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REMOTE_ADDR": self.client_address[0],
        }
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        done = subprocess.run(["git", "http-backend"], env=environment, input=body, stdout=subprocess.PIPE)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = [line.split(": ", 1) for line in head.decode().splitlines()]
        status = next((value for name, value in headers if name == "Status"), "200 OK")
        self.send_response(int(status.split()[0]))
        for name, value in headers:
            if name != "Status":
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _is_known(self) -> bool:
        given = self.headers.get("Authorization", "").removeprefix("Basic ")
        return base64.b64decode(given).decode().partition(":")[2] == self.token
