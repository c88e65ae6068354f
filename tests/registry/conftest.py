"""Debian's docker-registry on loopback, open or behind htpasswd, and a small image to push to it."""

from __future__ import annotations

import base64
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

from dindkit.image import layer, oci
from dindkit.image.recipe import Config
from dindkit.image.tree import Spool, Tree
from dindkit.progress import Progress
from dindkit.registry.client import Repository
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


def make_image(folder: Path, architecture: str = "amd64", content: str = "hello\n" * 4096) -> Image:
    """Make an image of two layers, as a build does."""
    spool = Spool(folder)
    first, second = Tree(spool), Tree(spool)
    first.put("etc/first", "first\n")
    second.put("etc/second", content)
    parts: list[oci.Part] = []
    blobs = {}
    for tree in (first, second):
        blob = folder / f"{architecture}-{len(parts)}"
        with blob.open("wb") as out:
            parts.append(oci.Part(layer.store(layer.difference(tree, None), spool, out), "test"))
        blobs[parts[-1].layer.digest] = blob
    image = oci.describe(parts, Config(), {"title": "test"}, 1_700_000_000, architecture, "test/image:1")
    path = folder / f"{architecture}.tar"
    with path.open("wb") as out:
        oci.write(image, blobs, out)
    return Image(oci.Archive(tarfile.open(path), path), b'{"spdxVersion":"SPDX-2.3"}')


@pytest.fixture
def image(tmp_path: Path) -> Image:
    """Make an image for amd64."""
    return make_image(tmp_path)


def push(host: str, *images: Image, name: str = "team/dind:trixie", **options: Any) -> Pushed:
    repository = Repository(parse(f"{host}/{name}"))
    return publish(images, repository, Progress(quiet=True), **options)


def log_in(folder: Path, host: str, password: str = PASSWORD) -> None:
    pair = base64.b64encode(f"{USER}:{password}".encode()).decode()
    (folder / "config.json").write_text(json.dumps({"auths": {host: {"auth": pair}}}))
