"""DIND_SWARM: a swarm from the start, that stays as it was."""

from __future__ import annotations

import pytest

from tests.engine.dind import WEB, Containers, Dind, until

pytestmark = pytest.mark.engine

STATE = "docker info -f '{{.Swarm.LocalNodeState}} {{.Swarm.NodeID}}'"


@pytest.fixture(scope="module")
def network(shared_containers: Containers) -> str:
    return str(shared_containers.network().name)


@pytest.fixture(scope="module")
def manager(shared_containers: Containers, network: str) -> Dind:
    """Start a manager; ready means that the swarm is, too."""
    return shared_containers.daemon(network=network, environment={"DIND_SWARM": "init"}, hostname="manager")


@pytest.fixture(scope="module")
def worker(shared_containers: Containers, network: str, manager: Dind) -> Dind:
    environment = {
        "DIND_SWARM": "join",
        "DIND_SWARM_TOKEN": manager("docker swarm join-token --quiet worker"),
        "DIND_SWARM_ADDRESS": f"{manager.name}:2377",
    }
    return shared_containers.daemon(network=network, environment=environment, hostname="worker").load(
        shared_containers.base
    )


def test_init(manager: Dind) -> None:
    assert manager(STATE).startswith("active ")
    assert (
        manager("docker info -f '{{.Swarm.ControlAvailable}} {{.Swarm.NodeAddr}}'")
        == f"true {manager.address}"
    )


def test_join(manager: Dind, worker: Dind) -> None:
    assert worker(STATE).startswith("active ")
    names = manager("docker node ls --format '{{.Hostname}} {{.Status}}'").splitlines()
    assert sorted(names) == ["manager Ready", "worker Ready"]


def test_a_service_is_reached_on_its_node(manager: Dind, worker: Dind) -> None:
    """Published in host mode: the routing mesh needs IPVS, which not every kernel has."""
    manager.docker(
        "service", "create", "--detach", "--name=web", "--publish=mode=host,published=8090,target=80",
        "--constraint=node.hostname==worker", "--no-resolve-image", "base", "perl", "-e", WEB,
    )  # fmt: skip
    ask = f"curl -s -m 3 http://{worker.address}:8090/"
    assert until(lambda: manager.run("sh", "-c", ask) == (0, "nested"))


def test_both_stay_over_restarts(manager: Dind, worker: Dind) -> None:
    before = manager(STATE), worker(STATE)
    for node in (manager, worker):
        node.container.restart()
    for node in (manager, worker):
        node.ready()
        assert any("swarm: a member already" in line for line in node.said())
    assert until(lambda: manager.run("docker", "node", "ls")[0] == 0)
    assert (manager(STATE), worker(STATE)) == before


def test_a_swarm_that_cannot_be_joined_ends_the_daemon(containers: Containers) -> None:
    environment = {
        "DIND_SWARM": "join",
        "DIND_SWARM_TOKEN": "SWMTKN-1-none",
        "DIND_SWARM_ADDRESS": "127.0.0.1:9",
    }
    code, output, _ = containers.answer(environment=environment)
    assert code == 1
    (line,) = (line for line in output.splitlines() if line.startswith("dind: error:"))
    assert "DIND_SWARM=join: " in line
