"""Debian's docker-registry, for as long as a block lasts."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def serve(
    folder: Path, address: str = "127.0.0.1", *, user: tuple[str, str] | None = None, tls: bool = False
) -> Iterator[str]:
    """Serve a registry that keeps its files in `folder`, and yield its `host:port`.

    With `user` (name, password) it wants a login; with `tls` it has a certificate for `address` that signs
    itself, `folder`/cert.pem.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind((address, 0))
        host = f"{address}:{probe.getsockname()[1]}"
    config: dict[str, object] = {
        "version": "0.1",
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
        yield host
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
