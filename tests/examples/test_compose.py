"""Daemon and client as compose services, over TLS and without."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dindkit.image.build import Built
from tests.examples.docker import Docker

pytestmark = pytest.mark.engine


@pytest.mark.parametrize("name", ["compose-tls", "compose-tcp"])
def test_a_client_works_with_its_daemon(
    name: str, docker: Docker, base: Built, example: Callable[[str], Path], token: str
) -> None:
    project = f"{name}-{token}"
    with docker.within(example(name)).up(project) as here:
        client = ("compose", "exec", "--no-TTY", "client")
        inner = here(*client, "docker", "info", "--format", "{{.ID}}")
        assert inner != here("info", "--format", "{{.ID}}")
        here(*client, "docker", "load", stdin=base.archive)

        here(*client, "sh", "-c", "echo from the client > /workspace/said")
        nested = ("docker", "run", "--rm", "--volume=/workspace:/mnt", base.reference)
        copy = "cat /mnt/said && echo from inside > /mnt/answered"
        assert here(*client, *nested, "sh", "-c", copy) == "from the client"
        assert here(*client, "cat", "/workspace/answered") == "from inside"
    assert docker.is_gone(project)


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
