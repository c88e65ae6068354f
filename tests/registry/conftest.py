"""Debian's docker-registry on loopback, open or behind htpasswd, and a small image to push to it."""

from __future__ import annotations

import base64
import io
import json
import socket
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import zstandard

from dindkit.progress import Progress
from dindkit.registry.client import Repository
from dindkit.registry.content import canonical, descriptor, digest_of
from dindkit.registry.publish import Image, Pushed, publish
from dindkit.registry.reference import parse

USER, PASSWORD = "reviewer", "correct horse"


@dataclass(frozen=True)
class Server:
    """A registry that runs."""

    host: str
    log: Path

    def requests(self) -> list[str]:
        """Every request so far as `METHOD path`."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [
            f"{line['http.request.method']} {line['http.request.uri']}"
            for line in lines
            if "http.request.uri" in line
        ]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


StartRegistry = Callable[..., Server]


@pytest.fixture
def start_registry(tmp_path: Path) -> Iterator[StartRegistry]:
    """Start registries: `start_registry(users=True, tls=(certificate, key))`."""
    running: list[subprocess.Popen[bytes]] = []

    def start(users: bool = False, tls: tuple[Path, Path] | None = None) -> Server:
        folder = tmp_path / f"registry-{len(running)}"
        folder.mkdir()
        port = free_port()
        http: dict[str, object] = {"addr": f"127.0.0.1:{port}"}
        if tls:
            http["tls"] = {"certificate": str(tls[0]), "key": str(tls[1])}
        config: dict[str, object] = {
            "version": "0.1",
            "log": {"level": "info", "formatter": "json"},
            "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
            "http": http,
        }
        if users:
            words = ["htpasswd", "-Bbn", USER, PASSWORD]
            (folder / "htpasswd").write_bytes(subprocess.run(words, check=True, capture_output=True).stdout)
            config["auth"] = {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}}
        (folder / "config.yml").write_text(json.dumps(config))
        log = folder / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["docker-registry", "serve", folder / "config.yml"], stdout=output, stderr=subprocess.STDOUT
            )
        running.append(process)
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        return Server(f"127.0.0.1:{port}", log)

    yield start
    for process in running:
        process.terminate()
        process.wait()


@pytest.fixture(autouse=True)
def docker_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put an empty folder in the place of ~/.docker."""
    folder = tmp_path / "docker-config"
    folder.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    return folder


def layer(name: str, content: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def make_image(architecture: str = "amd64", content: bytes = b"hello\n" * 4096) -> Image:
    """Make an image of two zstd layers."""
    tars = [layer("etc/first", b"first\n"), layer("etc/second", content)]
    packed = [zstandard.ZstdCompressor().compress(tar) for tar in tars]
    config = canonical(
        {
            "architecture": architecture,
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(tar) for tar in tars]},
        }
    )
    manifest = canonical(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", config),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar+zstd", blob) for blob in packed],
        }
    )
    blobs = {digest_of(blob): blob for blob in (config, *packed)}
    return Image(manifest, lambda digest: io.BytesIO(blobs[digest]), canonical({"spdxVersion": "SPDX-2.3"}))


def push(host: str, *images: Image, name: str = "team/dind:trixie", **options: Any) -> Pushed:
    repository = Repository(parse(f"{host}/{name}"))
    return publish(images or (make_image(),), repository, Progress(quiet=True), **options)


def log_in(folder: Path, host: str, password: str = PASSWORD) -> None:
    pair = base64.b64encode(f"{USER}:{password}".encode()).decode()
    (folder / "config.json").write_text(json.dumps({"auths": {host: {"auth": pair}}}))
