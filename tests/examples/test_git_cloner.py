"""The git-cloner service: what it answers, what it refuses, and what it leaves behind."""

from __future__ import annotations

import io
import json
import socket
import tarfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlencode

import pytest

from dindkit.image.build import Built
from tests.examples.conftest import EXAMPLES
from tests.examples.docker import Docker
from tests.examples.git_server import GitServer, serve

pytestmark = pytest.mark.engine

AT_ONCE = 20


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def reason(self) -> str:
        return str(json.loads(self.body)["error"])


@dataclass(frozen=True)
class Service:
    """The example, up and running."""

    docker: Docker

    def clone(self, url: str) -> Answer:
        """Ask for a clone; the address is looked up anew, because a container started again gets another."""
        address = self.docker("compose", "port", "cloner", "8000")
        request = urllib.request.Request(f"http://{address}/clone", urlencode({"url": url}).encode())
        try:
            with urllib.request.urlopen(request, timeout=300) as answer:
                return Answer(answer.status, dict(answer.headers), answer.read())
        except urllib.error.HTTPError as error:
            return Answer(error.code, dict(error.headers), error.read())

    def left(self) -> str:
        """Return what is in the shared volume, and which containers the daemon has."""
        within = ("compose", "exec", "--no-TTY", "docker")
        return self.docker(*within, "sh", "-c", "ls -A /clones && docker ps --all --quiet")

    def again(self, **environment: str) -> Service:
        """Start the service anew with other settings."""
        docker = self.docker.within(self.docker.folder, **environment)
        docker("compose", "up", "--detach", "--wait", "cloner")
        return Service(docker)


@pytest.fixture(scope="module")
def service(docker: Docker, git_image: Built, token: str) -> Iterator[Service]:
    settings = {"GIT_IMAGE_ARCHIVE": str(git_image.archive), "CLONER_PORT": "0"}
    with docker.within(EXAMPLES / "git-cloner").up(f"git-cloner-{token}", **settings) as up:
        yield Service(up)
    assert docker.is_gone(f"git-cloner-{token}")


@pytest.fixture(scope="module")
def server(service: Service, token: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitServer]:
    address = service.docker.gateway(f"git-cloner-{token}_dind")
    with serve(tmp_path_factory.mktemp("repositories"), address) as running:
        yield running


def files(answer: Answer) -> dict[str, tarfile.TarInfo]:
    assert answer.status == 200, answer.body
    with tarfile.open(fileobj=io.BytesIO(answer.body)) as tar:
        return {member.name: member for member in tar}


def content(answer: Answer, name: str) -> bytes:
    assert answer.status == 200, answer.body
    with tarfile.open(fileobj=io.BytesIO(answer.body)) as tar:
        file = tar.extractfile(name)
        assert file is not None
        return file.read()


def test_it_answers_with_the_tree(service: Service, server: GitServer) -> None:
    url = server.add("tree", {"a": b"one\n", "deep/b": b"two\n"}, {"link": "/etc/passwd"})
    answer = service.clone(url)
    members = files(answer)
    assert sorted(members) == [".", "./a", "./deep", "./deep/b", "./link"]
    assert content(answer, "./deep/b") == b"two\n"
    assert (members["./link"].type, members["./link"].linkname) == (tarfile.SYMTYPE, "/etc/passwd")
    assert {(member.uid, member.uname) for member in members.values()} == {(0, "")}
    assert service.left() == ""


def test_twenty_at_once_see_only_their_own(service: Service, server: GitServer) -> None:
    urls = [server.add(f"own-{n}", {f"file-{n}": f"number {n}\n".encode()}) for n in range(AT_ONCE)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(service.clone, urls))
    for n, answer in enumerate(answers):
        assert sorted(files(answer)) == [".", f"./file-{n}"]
        assert content(answer, f"./file-{n}") == f"number {n}\n".encode()
    assert service.left() == ""


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "is missing"),
        ("--upload-pack=touch${IFS}/clones/x", "does not begin with"),
        ("-uhttp://example.org/x", "does not begin with"),
        ("file:///etc", "does not begin with"),
        ("/etc", "does not begin with"),
        ("ext::sh", "does not begin with"),
        ("ssh://git@example.org/x", "does not begin with"),
        ("git@example.org:x", "does not begin with"),
        ("http://example.org/a b", "not printable ASCII"),
        ("http://example.org/\nx", "not printable ASCII"),
        ("http://me:secret@example.org/x", "user name or password"),
        ("http:///x", "no host"),
        ("http://[::1/x", "none"),
        ("http://example.org:99999/x", "none"),
        ("http://example.org/" + "x" * 2000, "longer than"),
    ],
)
def test_a_url_that_is_not_one_to_clone(service: Service, url: str, reason: str) -> None:
    answer = service.clone(url)
    assert answer.status == 400
    assert reason in answer.reason


def test_what_git_cannot_clone(service: Service, server: GitServer) -> None:
    answer = service.clone(f"{server.url}/absent")
    assert (answer.status, answer.reason.startswith("fatal: repository")) == (422, True)
    answer = service.clone("http://nowhere.invalid/x")
    assert (answer.status, "Could not resolve host" in answer.reason) == (422, True)
    assert service.left() == ""


def test_no_daemon_is_a_503_and_passes(service: Service, server: GitServer) -> None:
    url = server.add("patience", {"a": b"a"})
    service.docker("compose", "stop", "docker")
    answer = service.clone(url)
    assert (answer.status, answer.reason) == (503, "the Docker daemon does not answer yet")
    assert answer.headers["Retry-After"] == "2"
    service.docker("compose", "up", "--detach", "--wait", "docker")
    assert service.clone(url).status == 200


def test_no_git_image_is_a_503_and_passes(service: Service, server: GitServer, git_image: Built) -> None:
    url = server.add("image", {"a": b"a"})
    within = ("compose", "exec", "--no-TTY", "docker", "docker")
    service.docker(*within, "image", "rm", git_image.reference)
    answer = service.clone(url)
    assert (answer.status, answer.reason) == (
        503,
        f"the Docker daemon has no image {git_image.reference} yet",
    )
    assert service.left() == ""
    service.docker("compose", "run", "--rm", "load")
    assert service.clone(url).status == 200


@contextmanager
def silent_server(address: str) -> Iterator[str]:
    """Yield the URL of a server that takes requests and never answers."""
    with socket.create_server((address, 0)) as listener:
        yield f"http://{address}:{listener.getsockname()[1]}/silent"


def test_bounds(service: Service, server: GitServer) -> None:
    large = server.add("large", {"noise": bytes(range(256)) * 40_000})
    many = server.add("many", {f"{n}": b"" for n in range(2_000)})
    limits = {"CLONER_BYTES": "5000000", "CLONER_SECONDS": "4", "CLONER_HOSTS": server.address}
    bounded = service.again(**limits)
    with silent_server(server.address) as silent:
        answer = bounded.clone(silent)
    assert (answer.status, answer.reason) == (504, "the clone took longer than 4 s")
    for url in (large, many):
        answer = bounded.clone(url)
        assert answer.status == 422
        assert "File too large" in answer.reason or "takes more than 5000000 bytes" in answer.reason
    answer = bounded.clone("http://example.org/x")
    assert (answer.status, "example.org is not one" in answer.reason) == (400, True)
    assert bounded.left() == ""


def test_a_daemon_killed_in_a_clone_keeps_nothing_of_it(service: Service, server: GitServer) -> None:
    url = server.add("after", {"a": b"a"})
    patient = service.again(CLONER_SECONDS="300")
    with silent_server(server.address) as silent, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(patient.clone, silent)
        _until_it_began(patient)
        patient.docker("compose", "kill", "docker")
        assert answer.result().status == 503
    patient.docker("compose", "up", "--detach", "--wait", "docker")
    assert patient.clone(url).status == 200
    assert patient.left() == ""


def test_a_killed_service_leaves_nothing_once_it_is_back(service: Service, server: GitServer) -> None:
    patient = service.again(CLONER_SECONDS="300")
    with silent_server(server.address) as silent:
        threading.Thread(target=_give_up_on, args=(patient, silent), daemon=True).start()
        _until_it_began(patient)
        patient.docker("compose", "kill", "cloner")
        assert patient.left() != ""
        patient.docker("compose", "up", "--detach", "--wait", "cloner")
    assert patient.left() == ""


def _until_it_began(service: Service) -> None:
    """Wait for the folder and the container of a clone."""
    deadline = time.monotonic() + 60
    while len(service.left().split()) < 2:
        assert time.monotonic() < deadline, "the clone never began"
        time.sleep(0.2)


def _give_up_on(service: Service, url: str) -> None:
    try:
        service.clone(url)
    except OSError:
        return
