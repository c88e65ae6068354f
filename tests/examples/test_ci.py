"""The CI image: a token that stays out of it, and a pipeline from login to pull."""

from __future__ import annotations

import base64
import gzip
import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import quote

import pytest
import zstandard

from dindkit.image.build import Built
from tests.examples.conftest import EXAMPLES
from tests.examples.docker import Docker
from tests.examples.git_server import serve
from tests.support import registry

pytestmark = pytest.mark.engine

#: With characters that a URL would have to escape, so that an escaped copy is a different text.
TOKEN = "tkn+7f3a/9c1e=never"
MAKEFILE = b"image:\n\tdocker build --tag $(IMAGE) .\n\tdocker push $(IMAGE)\n"


@pytest.fixture(scope="module")
def repository(docker: Docker, base: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the URL of a repository that only the token opens."""
    dockerfile = f"FROM {base.reference}\nCOPY Makefile /marker\n".encode()
    with serve(tmp_path_factory.mktemp("private"), docker.gateway("bridge"), TOKEN) as server:
        yield server.add("pipeline", {"Makefile": MAKEFILE, "Dockerfile": dockerfile})


def build(docker: Docker, repository: str, token: str, tag: str) -> subprocess.CompletedProcess[str]:
    here = docker.within(EXAMPLES / "ci", GIT_TOKEN=token)
    image = f"--build-arg=DIND_IMAGE={docker.environment['DIND_IMAGE']}"
    secret = ("--secret", "id=git-token,env=GIT_TOKEN", f"--build-arg=REPOSITORY={repository}")
    return here.run("build", "--progress=plain", *secret, image, "--tag", tag, ".")


@pytest.fixture(scope="module")
def image(docker: Docker, repository: str, token: str) -> Iterator[str]:
    tag = f"dindkit-test/ci:{token}"
    done = build(docker, repository, TOKEN, tag)
    assert done.returncode == 0, done.stderr
    assert TOKEN not in done.stdout + done.stderr
    yield tag
    docker("image", "rm", "--force", tag)


def test_the_token_opens_the_repository(docker: Docker, repository: str, token: str, image: str) -> None:
    done = build(docker, repository + "/", "guess", f"dindkit-test/ci-guess:{token}")
    assert done.returncode != 0
    assert "Authentication failed" in done.stderr


def plain(file: IO[bytes]) -> bytes:
    """Return what `file` holds, unpacked where an engine saves its layers compressed."""
    data = file.read()
    if data.startswith(b"\x1f\x8b"):
        return gzip.decompress(data)
    if data.startswith(zstandard.FRAME_HEADER):
        return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    return data


def what_an_image_holds(docker: Docker, image: str, folder: Path) -> Iterator[bytes]:
    """Yield every file of the saved image, its layers among them, then what the engine tells of it.

    Layers of the image that it was built on are left out: they are older than the token.
    """
    below = docker(
        "image", "inspect", "--format", "{{json .RootFS.Layers}}", docker.environment["DIND_IMAGE"]
    )
    older = {digest.removeprefix("sha256:") for digest in json.loads(below)}
    docker("save", "--output", str(folder / "image.tar"), image)
    with tarfile.open(folder / "image.tar") as tar:
        for member in tar:
            if Path(member.name).name not in older and (file := tar.extractfile(member)) is not None:
                yield plain(file)
    for words in (("history", "--no-trunc", image), ("inspect", image), ("run", "--rm", image, "env")):
        yield docker(*words).encode()


def test_the_token_is_nowhere_in_the_image(docker: Docker, image: str, tmp_path: Path) -> None:
    pair = f"ci:{TOKEN}".encode()
    secrets = {TOKEN.encode(), quote(TOKEN, safe="").encode(), base64.b64encode(pair)}
    # In a layer, in the history, in the environment: what shows that the search would find the token there.
    known = {b'[remote "origin"]', b"REPOSITORY=http", b"DOCKER_TLS_CERTDIR=/certs\n"}
    found = set()
    for part in what_an_image_holds(docker, image, tmp_path):
        found |= {text for text in secrets | known if text in part + b"\n"}
    assert found == known


@dataclass(frozen=True)
class Runner:
    """The CI image as a running daemon."""

    docker: Docker
    name: str

    def __call__(self, *words: str, stdin: Path | None = None) -> str:
        return self.docker("exec", "--interactive", self.name, *words, stdin=stdin)


@pytest.fixture
def private_registry(docker: Docker, token: str, tmp_path: Path) -> Iterator[tuple[str, Path, str]]:
    """Yield address, certificate and network of a registry behind a password."""
    network = f"dindkit-test-ci-{token}"
    docker("network", "create", network)
    try:
        address = docker.gateway(network)
        folder = tmp_path / "registry"
        with registry.serve(folder, address, user=("ci", "p4ss"), tls=True) as served:
            yield served.host, served.certificate, network
    finally:
        docker("network", "rm", network)


@pytest.fixture
def runner(
    docker: Docker, image: str, token: str, private_registry: tuple[str, Path, str], tmp_path: Path
) -> Iterator[Runner]:
    host, certificate, network = private_registry
    trusted = tmp_path / "certs.d" / host
    trusted.mkdir(parents=True)
    shutil.copy(certificate, trusted / "ca.crt")
    options = (f"--network={network}", f"--volume={trusted.parent}:/etc/docker/certs.d:ro")
    name = f"dindkit-test-ci-{token}"
    docker("run", "--detach", "--privileged", f"--name={name}", *options, image)
    try:
        docker("exec", name, "dind-wait")
        yield Runner(docker, name)
    except BaseException:
        print(docker.run("logs", "--tail=30", name).stderr)  # noqa: T201 - pytest shows it
        raise
    finally:
        docker("rm", "--force", "--volumes", name)


def test_a_pipeline_logs_in_builds_pushes_and_pulls(
    runner: Runner, base_archive: Path, private_registry: tuple[str, Path, str], tmp_path: Path
) -> None:
    host = private_registry[0]
    assert runner("docker", "info", "--format", "{{.LoggingDriver}}") == "local"
    for tool in ("jq", "make", "rsync"):
        assert re.search(r"\d\.\d", runner(tool, "--version"))
    runner("docker", "load", stdin=base_archive)

    image = f"{host}/team/hello:1"
    pipeline = ("exec", runner.name, "make", "--directory=/opt/pipeline", f"IMAGE={image}")
    locked_out = runner.docker.run(*pipeline)
    assert locked_out.returncode != 0
    assert "no basic auth credentials" in locked_out.stderr

    login = ("docker", "login", "--username=ci", "--password-stdin", host)
    (tmp_path / "wrong").write_text("guess")
    wrong = runner.docker.run("exec", "--interactive", runner.name, *login, stdin=tmp_path / "wrong")
    assert "401 Unauthorized" in wrong.stderr
    (tmp_path / "password").write_text("p4ss")
    assert "Login Succeeded" in runner(*login, stdin=tmp_path / "password")
    runner.docker(*pipeline)

    built = runner("docker", "image", "inspect", "--format", "{{.Id}}", image)
    runner("docker", "image", "rm", image)
    runner("docker", "pull", "--quiet", image)
    assert runner("docker", "image", "inspect", "--format", "{{.Id}}", image) == built
    assert runner("docker", "run", "--rm", image, "head", "-n1", "/marker") == "image:"
