"""The stack: a fleet of runners on a Swarm of one node, which is a container of our image."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import pytest

from dindkit.image.build import Built
from tests.examples.conftest import EXAMPLES
from tests.examples.docker import Docker

pytestmark = pytest.mark.engine


@dataclass(frozen=True)
class Node:
    """A Swarm manager in a container."""

    docker: Docker
    name: str

    def __call__(self, *words: str) -> str:
        """Run `docker WORDS` on the node."""
        return self.docker("exec", self.name, "docker", *words)

    def runners(self) -> dict[str, str]:
        """Name and id of the privileged containers that run."""
        lines = self("ps", "--filter=name=^fleet_runner-[0-9]+$", "--format={{.Names}} {{.ID}}").splitlines()
        return dict(line.split() for line in lines)

    def daemons(self, names: Iterable[str]) -> list[str]:
        """Return the ids of the daemons in the runners, of those that answer."""
        asked = [
            self.docker.run("exec", self.name, "docker", "exec", name, "docker", "info", "--format={{.ID}}")
            for name in names
        ]
        return [done.stdout.strip() for done in asked if done.returncode == 0]


@pytest.fixture
def node(docker: Docker, dind: Built, token: str) -> Iterator[Node]:
    name = f"dindkit-test-swarm-{token}"
    files = (f"--volume={EXAMPLES / 'swarm'}:/stack:ro", f"--volume={dind.archive}:/dind.tar:ro")
    docker(
        "run", "--detach", "--privileged", f"--name={name}", "--env=DIND_SWARM=init", *files, dind.reference
    )
    try:
        docker("exec", name, "dind-wait")
        docker("exec", name, "docker", "load", "--input=/dind.tar")
        yield Node(docker, name)
    except BaseException:
        print(docker.run("exec", name, "docker", "service", "ps", "--no-trunc", "fleet_runner").stdout)  # noqa: T201
        raise
    finally:
        docker("rm", "--force", "--volumes", name)


def until(what: Callable[[], bool], message: str, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, message
        time.sleep(0.5)


def test_a_fleet_of_runners(node: Node) -> None:
    first, second = names = ("fleet_runner-1", "fleet_runner-2")
    deploy = (
        "docker",
        "stack",
        "deploy",
        "--resolve-image=never",
        "--compose-file=/stack/stack.yaml",
        "fleet",
    )
    node.docker("exec", "--env=RUNNERS=2", node.name, *deploy)
    until(lambda: len(node.daemons(names)) == 2, "the runners' daemons do not answer")
    daemons = {*node.daemons(names), node("info", "--format={{.ID}}")}
    assert len(daemons) == 3

    before = node.runners()
    node("kill", first)
    until(lambda: node.runners().get(first, before[first]) != before[first], "none took its place")
    until(lambda: set(node.daemons(names)) < daemons, "its daemon is not the one of its volume")
    assert node.runners()[second] == before[second]

    node("stack", "rm", "fleet")
    until(lambda: not node.runners(), "runners outlive their stack")
    until(lambda: node("ps", "--all", "--quiet") == "", "containers are left")
