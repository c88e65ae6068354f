"""Debian's docker-registry on loopback, open or behind htpasswd, and a small image to push to it."""

from __future__ import annotations

import base64
import itertools
import json
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from dindkit.formats import layer, oci
from dindkit.formats.contents import ContentStore
from dindkit.formats.image_archive import Archive
from dindkit.formats.tree import Tree
from dindkit.image import image_config
from dindkit.image.recipe import Config
from dindkit.progress import Progress
from dindkit.registry.client import Repository
from dindkit.registry.publish import Image, Pushed, publish
from dindkit.registry.reference import parse
from tests.support.layers import store
from tests.support.registry import Registry, serve

USER, PASSWORD = "reviewer", "correct horse"


StartRegistry = Callable[..., Registry]


@pytest.fixture
def start_registry(tmp_path: Path) -> Iterator[StartRegistry]:
    """Start registries: `start_registry(users=True, tls=True)`."""
    with ExitStack() as running:

        def start(users: bool = False, tls: bool = False) -> Registry:
            folder = tmp_path / f"registry-{next(numbers)}"
            return running.enter_context(serve(folder, user=(USER, PASSWORD) if users else None, tls=tls))

        numbers = itertools.count()
        yield start


@pytest.fixture(autouse=True)
def docker_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put an empty folder in the place of ~/.docker."""
    folder = tmp_path / "docker-config"
    folder.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    return folder


def make_image(folder: Path, architecture: str = "amd64", content: str = "hello\n" * 4096) -> Image:
    """Make an image of two layers, as a build does."""
    contents = ContentStore(folder)
    first, second = Tree(contents), Tree(contents)
    first.put("etc/first", "first\n")
    second.put("etc/second", content)
    parts: list[image_config.Part] = []
    blobs = {}
    for tree in (first, second):
        blob = folder / f"{architecture}-{len(parts)}"
        with blob.open("wb") as out:
            parts.append(image_config.Part(store(layer.difference(tree, None), contents, out), "test"))
        blobs[parts[-1].layer.digest] = blob
    image = image_config.describe(
        parts, Config(), {"title": "test"}, 1_700_000_000, architecture, "test/image:1"
    )
    path = folder / f"{architecture}.tar"
    with path.open("wb") as out:
        oci.write(image, blobs, out)
    return Image(Archive(tarfile.open(path), path, path.stat().st_size), b'{"spdxVersion":"SPDX-2.3"}')


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
