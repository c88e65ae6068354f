"""The devcontainer, brought up by the real command line of the Dev Containers specification."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.examples.devcontainer import Devcontainer, give, remove
from tests.examples.docker import Docker

pytestmark = pytest.mark.engine

#: The first user of a Debian system, who is `dev` in the example.
UID = 1000


@pytest.fixture
def devcontainer(
    devcontainer_cli: Path, docker: Docker, example: Callable[[str], Path]
) -> Iterator[Devcontainer]:
    workspace = example("devcontainer")
    give(workspace, UID)
    here = Devcontainer(devcontainer_cli, docker, workspace)
    try:
        assert here.up()["remoteUser"] == "dev"
        yield here
    finally:
        remove(docker, workspace)


def test_a_user_works_with_docker_inside(devcontainer: Devcontainer, base_archive: Path) -> None:
    inside = devcontainer.inside
    assert inside("id", "--user", "--name") == "dev"
    assert "docker" in inside("id", "--groups", "--name").split()
    assert inside("docker", "info", "--format", "{{.ID}}") != devcontainer.docker(
        "info", "--format", "{{.ID}}"
    )
    inside("docker", "load", stdin=base_archive)

    greeting = (devcontainer.workspace / "greeting.txt").read_text().strip()
    inside("docker", "build", "--quiet", "--tag=hello", ".")
    assert inside("docker", "run", "--rm", "hello") == greeting
    inside("docker", "buildx", "build", "--quiet", "--no-cache", "--tag=hello:again", ".")
    assert "running" in inside("docker", "buildx", "ls")
    # compose.yaml reads the greeting from the workspace folder, not from the image.
    (devcontainer.workspace / "greeting.txt").write_text("changed since the build\n")
    said = inside("docker", "compose", "up", "--no-color", "--exit-code-from=hello")
    assert "changed since the build" in said

    files = [path.name for path in devcontainer.workspace.iterdir()]
    listing = 'docker run --rm --volume "$PWD:/mnt" hello ls -A /mnt'
    assert inside("sh", "-c", listing).split() == sorted(files)
    inside("sh", "-c", 'docker run --rm --volume "$PWD:/mnt" hello sh -c "echo inside > /mnt/made"')
    assert (devcontainer.workspace / "made").read_text() == "inside\n"


def test_the_user_owns_what_the_first_user_of_the_host_owns(devcontainer: Devcontainer) -> None:
    """The workspace belongs to uid 1000; nobody here lends a hand as root."""
    devcontainer.inside("sh", "-c", "echo by hand > made-by-dev && mkdir folder && rm greeting.txt")
    made = devcontainer.workspace / "made-by-dev"
    assert (made.read_text(), made.stat().st_uid) == ("by hand\n", UID)
    assert not (devcontainer.workspace / "greeting.txt").exists()
