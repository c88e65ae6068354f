"""Daemon and client as compose services: in one container, by the host's socket, over TLS and without."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dindkit.engine.discover import Engine
from dindkit.image.build import Built
from tests.examples.docker import Docker

pytestmark = pytest.mark.engine


@pytest.mark.parametrize("name", ["compose-tls", "compose-tcp"])
def test_a_client_works_with_its_daemon(
    name: str, docker: Docker, base: Built, base_archive: Path, example: Callable[[str], Path], token: str
) -> None:
    project = f"{name}-{token}"
    with docker.within(example(name)).up(project) as here:
        client = ("compose", "exec", "--no-TTY", "client")
        inner = here(*client, "docker", "info", "--format", "{{.ID}}")
        assert inner != here("info", "--format", "{{.ID}}")
        here(*client, "docker", "load", stdin=base_archive)

        here(*client, "sh", "-c", "echo from the client > /workspace/said")
        nested = ("docker", "run", "--rm", "--volume=/workspace:/mnt", base.reference)
        copy = "cat /mnt/said && echo from inside > /mnt/answered"
        assert here(*client, *nested, "sh", "-c", copy) == "from the client"
        assert here(*client, "cat", "/workspace/answered") == "from inside"
    assert docker.is_gone(project)


def test_a_daemon_with_its_containers_inside(
    docker: Docker, base: Built, base_archive: Path, example: Callable[[str], Path], token: str
) -> None:
    folder = example("compose-nested")
    project = f"nested-{token}"
    with docker.within(folder).up(project) as here:
        inside = ("compose", "exec", "--no-TTY", "docker")
        assert here(*inside, "docker", "info", "--format", "{{.ID}}") != here("info", "--format", "{{.ID}}")
        here(*inside, "docker", "load", stdin=base_archive)
        nested = ("docker", "run", "--rm", "--volume=/app:/app", base.reference)
        here(*inside, *nested, "sh", "-c", "ls /app >/app/seen")
        assert "compose.yaml" in (folder / "seen").read_text()
        assert here.run(*inside, "curl", "-s", "http://localhost:2375/_ping").returncode == 7
    assert docker.is_gone(project)


def test_a_client_of_the_hosts_daemon(
    docker: Docker, engine: Engine, base: Built, example: Callable[[str], Path], token: str
) -> None:
    name = f"socket-{token}"
    folder = example("compose-socket")
    try:
        with docker.within(folder, PWD=str(folder), DOCKER_SOCKET=engine.own_socket).up(name) as here:
            client = ("compose", "exec", "--no-TTY", "client")
            assert here(*client, "docker", "info", "--format", "{{.ID}}") == here(
                "info", "--format", "{{.ID}}"
            )
            look = f'docker run --rm --volume "$PWD:/here" {base.reference} ls /here'
            assert "compose.yaml" in here(*client, "sh", "-c", look)
            sibling = f"docker run --detach --name {name} {base.reference} sleep infinity"
            here(*client, "sh", "-c", sibling)
        assert docker("inspect", "--format", "{{.State.Running}}", name) == "true"
    finally:
        docker.run("rm", "--force", name)
    assert docker.is_gone(name)


def test_only_a_certificate_opens_the_daemon(
    docker: Docker, example: Callable[[str], Path], token: str
) -> None:
    with docker.within(example("compose-tls")).up(f"certificates-{token}") as here:
        client = ("compose", "exec", "--no-TTY")
        assert here.run(*client, "client", "touch", "/certs/client/mine").returncode != 0
        assert "No such file" in here.run(*client, "client", "ls", "/certs/ca/key.pem").stderr

        bare = (*client, "--env=DOCKER_TLS_VERIFY=", "--env=DOCKER_CERT_PATH=", "client")
        refused = here.run(*bare, "docker", "version")
        assert refused.returncode != 0
        assert "HTTP request to an HTTPS server" in refused.stderr
        stranger = ("curl", "--silent", "--show-error", "--insecure", "https://docker:2376/_ping")
        assert "certificate required" in here.run(*client, "client", *stranger).stderr
