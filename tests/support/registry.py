"""Debian's docker-registry, for as long as a block lasts, and what it was asked."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Registry:
    """A registry that runs."""

    #: `address:port`
    host: str
    folder: Path

    @property
    def certificate(self) -> Path:
        """The certificate that a registry with TLS signed itself."""
        return self.folder / "cert.pem"

    def requests(self) -> list[str]:
        """Every request so far as `METHOD path`."""
        lines = (self.folder / "log").read_text().splitlines()
        entries = [json.loads(line) for line in lines if line.startswith("{")]
        return [
            f"{entry['http.request.method']} {entry['http.request.uri']}"
            for entry in entries
            if "http.request.uri" in entry
        ]


def free_port(address: str = "127.0.0.1") -> int:
    """Return a TCP port of `address` on which nothing listens."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


@contextmanager
def serve(
    folder: Path, address: str = "127.0.0.1", *, user: tuple[str, str] | None = None, tls: bool = False
) -> Iterator[Registry]:
    """Serve a registry that keeps its files in `folder`.

    With `user` (name, password) it wants a login; with `tls` it has a certificate for `address`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    host = f"{address}:{free_port(address)}"
    config: dict[str, object] = {
        "version": "0.1",
        "log": {"level": "info", "formatter": "json"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": host, **({"tls": _certificate(folder, address)} if tls else {})},
    }
    if user:
        words = ["htpasswd", "-Bbn", *user]
        (folder / "htpasswd").write_bytes(subprocess.run(words, check=True, capture_output=True).stdout)
        config["auth"] = {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}}
    (folder / "config.yml").write_text(json.dumps(config))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["docker-registry", "serve", folder / "config.yml"], stdout=log, stderr=subprocess.STDOUT
        )
    try:
        _wait(process, address, int(host.rpartition(":")[2]))
        yield Registry(host, folder)
    finally:
        process.terminate()
        process.wait()


def _certificate(folder: Path, address: str) -> dict[str, str]:
    certificate, key = str(folder / "cert.pem"), str(folder / "key.pem")
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    words += ["-subj", "/CN=registry", "-addext", f"subjectAltName=IP:{address}", "-days", "2"]
    subprocess.run([*words, "-out", certificate, "-keyout", key], check=True, capture_output=True)
    return {"certificate": certificate, "key": key}


def _wait(process: subprocess.Popen[bytes], address: str, port: int) -> None:
    while process.poll() is None:
        try:
            socket.create_connection((address, port)).close()
        except ConnectionRefusedError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"docker-registry ended with exit code {process.returncode}")
