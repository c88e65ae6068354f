"""What this user's environment says of the web's certificates and proxies is nothing to an engine here."""

from __future__ import annotations

import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from dindkit.engine.discover import connect, find, tls_of
from dindkit.errors import EngineError
from dindkit.process import require
from dindkit.project import Project


class Daemon(BaseHTTPRequestHandler):
    """Stands in for a daemon: it says its version, and nothing else."""

    def do_GET(self) -> None:
        body = json.dumps({"ApiVersion": "1.45", "Arch": "amd64", "Version": "26.1.5"}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_words: object) -> None:
        """Say nothing."""


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-keyout", "key.pem"]
    name = ["-subj", "/CN=docker", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    command = [require("openssl"), "req", "-x509", *key, *name, "-out", "cert.pem"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "ca.pem").write_bytes((tmp_path / "cert.pem").read_bytes())
    return tmp_path


@pytest.fixture
def port(certificates: Path) -> Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "cert.pem", certificates / "key.pem")
    context.load_verify_locations(certificates / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    server = HTTPServer(("127.0.0.1", 0), Daemon)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def test_missing_certificates_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(tmp_path))
    with pytest.raises(EngineError, match=r"does not have a client's ca\.pem"):
        find(Project.here())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REQUESTS_CA_BUNDLE", "/etc/ssl/certs/ca-certificates.crt"),
        ("CURL_CA_BUNDLE", "/etc/ssl/certs/ca-certificates.crt"),
        ("HTTPS_PROXY", "http://127.0.0.1:1"),
    ],
)
def test_the_environment_is_not_asked(
    certificates: Path, port: int, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    for other in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NO_PROXY", "no_proxy", "https_proxy"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, value)
    engine = connect(f"tcp://127.0.0.1:{port}", "a test", tls_of(certificates))
    assert engine.client.version()["Arch"] == "amd64"
