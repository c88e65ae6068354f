"""Who is pushing: tokens, passwords, and where Docker keeps them."""

from __future__ import annotations

import base64
import json
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import requests

from dindkit.errors import DindkitError, TrustError, UnavailableError
from dindkit.registry import client, credentials
from dindkit.registry.answer import Answer
from dindkit.registry.auth import Authorization
from dindkit.registry.credentials import Credentials
from dindkit.registry.publish import Image
from dindkit.web.session import Request
from tests.registry.conftest import PASSWORD, USER, log_in, push


class _TokenServer(BaseHTTPRequestHandler):
    """A token server and a registry in one, as far as a push's first steps go."""

    seen: list[tuple[str, str]]
    uploads_to_drop = 0
    wants_login = True
    #: Where uploads are to go.
    location = "/v2/upload?state=1"

    def _answer(self) -> None:
        authorization = self.headers.get("Authorization", "")
        self.seen.append((f"{self.command} {self.path}", authorization))
        length = int(self.headers.get("Content-Length", 0))
        if self.path.startswith("/token"):
            body = self.rfile.read(length).decode()
            given = authorization or body
            known = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            self._reply(200 if known in given or "refresh_token=abc" in given else 401, b'{"token":"t0"}')
        elif self.wants_login and authorization != "Bearer t0":
            port = self.server.server_address[1]  # type: ignore[index]
            realm = f'Bearer realm="http://127.0.0.1:{port}/token",service="s",scope="x"'
            self._reply(401, b"{}", {"WWW-Authenticate": realm})
        elif self.command == "PUT" and "upload" in self.path and type(self).uploads_to_drop:
            type(self).uploads_to_drop -= 1
            self.rfile.read(min(length, 10))
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        else:
            self.rfile.read(length)
            status = {"HEAD": 404, "POST": 202, "PUT": 201, "GET": 404}[self.command]
            self._reply(status, b"", {"Location": self.location, "OCI-Subject": "yes"})

    do_GET = do_HEAD = do_POST = do_PUT = _answer  # noqa: N815 - http.server's own names

    def _reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's own name
        """Say nothing."""


TokenServer = tuple[str, type[_TokenServer]]


@contextmanager
def _serve() -> Iterator[TokenServer]:
    handler = type("Handler", (_TokenServer,), {"seen": []})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}", handler
        server.shutdown()


@pytest.fixture
def token_server() -> Iterator[TokenServer]:
    with _serve() as running:
        yield running


@pytest.fixture
def storage(token_server: TokenServer) -> Iterator[TokenServer]:
    """Run the storage service to which the registry sends its clients' uploads."""
    with _serve() as (host, handler):
        token_server[1].location = f"http://{host}/v2/upload?signature=1"
        yield host, handler


def test_a_token_is_fetched_with_the_password(
    token_server: TokenServer, docker_config: Path, image: Image
) -> None:
    host, handler = token_server
    log_in(docker_config, host)
    assert push(host, image).sent == 3
    (asked,) = [line for line, _ in handler.seen if line.startswith("GET /token")]
    assert "scope=repository%3Ateam%2Fdind%3Apull%2Cpush" in asked
    assert "service=s" in asked
    assert not [line for line, header in handler.seen if "/token" not in line and header.startswith("Basic")]


def test_a_token_is_fetched_with_an_identity_token(
    token_server: TokenServer, docker_config: Path, image: Image
) -> None:
    host, handler = token_server
    (docker_config / "config.json").write_text(json.dumps({"auths": {host: {"identitytoken": "abc"}}}))
    assert push(host, image).sent == 3
    assert [line for line, _ in handler.seen if line.startswith("POST /token")]


def test_a_token_server_that_refuses(token_server: TokenServer, docker_config: Path, image: Image) -> None:
    host, _ = token_server
    log_in(docker_config, host, "wrong")
    with pytest.raises(
        DindkitError, match=f"{host} refused the credentials .401 from its token server."
    ) as caught:
        push(host, image)
    assert "wrong" not in str(caught.value)


def test_a_dropped_upload_is_tried_again(
    token_server: TokenServer,
    docker_config: Path,
    monkeypatch: pytest.MonkeyPatch,
    image: Image,
) -> None:
    host, handler = token_server
    log_in(docker_config, host)
    monkeypatch.setattr(client, "_PAUSE", 0)
    handler.uploads_to_drop = 2
    assert push(host, image).sent == 3
    handler.uploads_to_drop = 3
    with pytest.raises(UnavailableError):
        push(host, image)


def test_a_storage_service_sees_no_credentials(
    token_server: TokenServer, storage: TokenServer, docker_config: Path, image: Image
) -> None:
    host, handler = token_server
    log_in(docker_config, host)
    storage[1].wants_login = False
    assert push(host, image).sent == 3
    assert "Bearer t0" in {header for _, header in handler.seen}
    assert {header for _, header in storage[1].seen} == {""}


def test_a_storage_service_that_asks_for_credentials_gets_none(
    token_server: TokenServer, storage: TokenServer, docker_config: Path, image: Image
) -> None:
    host, _ = token_server
    log_in(docker_config, host)
    with pytest.raises(DindkitError, match=f"{storage[0]} answered 401 to PUT"):
        push(host, image)
    assert [header for _, header in storage[1].seen] == [""]


@pytest.mark.parametrize(
    "known",
    [Credentials(USER, PASSWORD), Credentials(identity_token="t"), None],
    ids=["password", "token", ""],
)
def test_a_registry_with_tls_cannot_have_credentials_sent_in_the_clear(known: Credentials | None) -> None:
    authorization = Authorization("https://registry.example", "repository:a:pull,push", known)
    refusal = requests.Response()
    refusal.url = "https://registry.example/v2/"
    refusal.headers["WWW-Authenticate"] = 'Bearer realm="http://registry.example/token"'
    asked: list[Any] = []

    def ask(request: Request) -> Answer:
        asked.append(request)
        return Answer(request.method, request.url, 200, {}, b"{}")

    with pytest.raises(TrustError, match=r"sent to http://registry\.example/token unencrypted"):
        authorization.answer(refusal, ask)
    assert not asked


def helper(folder: Path, name: str, script: str) -> None:
    """Put a credential helper of that name on PATH."""
    program = folder / f"docker-credential-{name}"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_credential_helpers_come_before_the_store_and_the_file(
    docker_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    helper(tmp_path, "one", """read -r key; echo "{\\"Username\\": \\"u\\", \\"Secret\\": \\"$key\\"}" """)
    helper(tmp_path, "all", """echo '{"Username": "<token>", "Secret": "t"}' """)
    pair = base64.b64encode(b"file:secret").decode()
    config: dict[str, Any] = {"auths": {"a.example": {"auth": pair}, "https://b.example/v1/": {"auth": pair}}}
    path = docker_config / "config.json"
    path.write_text(json.dumps(config))
    assert credentials.find("a.example") == credentials.find("b.example") == Credentials("file", "secret")
    assert credentials.find("c.example") is None
    path.write_text(json.dumps({**config, "credsStore": "all"}))
    assert credentials.find("a.example") == Credentials(identity_token="t")
    path.write_text(json.dumps({**config, "credsStore": "all", "credHelpers": {"a.example": "one"}}))
    assert credentials.find("a.example") == Credentials("u", "a.example")


def test_a_helper_that_knows_nothing_one_that_fails_and_one_that_is_missing(
    docker_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    helper(tmp_path, "empty", "echo 'credentials not found in native keychain'; exit 1")
    helper(tmp_path, "broken", "echo 'the keychain is locked' >&2; exit 1")
    helper(tmp_path, "odd", "echo '[]'")
    for name in ("empty", "broken", "odd", "absent"):
        (docker_config / "config.json").write_text(json.dumps({"credsStore": name}))
        if name == "empty":
            assert credentials.find("a.example") is None
        else:
            with pytest.raises(DindkitError, match=f"docker-credential-{name}"):
                credentials.find("a.example")


def test_a_helper_is_looked_for_by_its_name_alone(
    docker_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "docker-credential-").mkdir()
    helper(tmp_path, "x", "echo ran >&2; exit 1")
    monkeypatch.chdir(tmp_path)
    for name in ("/../docker-credential-x", "../x", "a\0b", "/bin/x"):
        (docker_config / "config.json").write_text(json.dumps({"credsStore": name}))
        with pytest.raises(DindkitError, match="which is no name"):
            credentials.find("a.example")


@pytest.mark.parametrize(
    "entry", ["not base64!", base64.b64encode(b"no-colon").decode(), "é", "\ud800", 5, ["x"]]
)
def test_damaged_configuration_is_named(docker_config: Path, entry: object) -> None:
    (docker_config / "config.json").write_text(json.dumps({"auths": {"a.example": {"auth": entry}}}))
    with pytest.raises(DindkitError, match=r"entry for a\.example .* damaged"):
        credentials.find("a.example")
    for text in ("{", "[" * 5000):
        (docker_config / "config.json").write_text(text)
        with pytest.raises(DindkitError, match="not valid JSON"):
            credentials.find("a.example")


def test_secrets_are_not_printed() -> None:
    assert PASSWORD not in repr(Credentials(USER, PASSWORD))
