"""IPv6 outside: with a small MTU, in templates, in the log, and where there is nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from docker.models.networks import Network
from docker.types import IPAMConfig, IPAMPool

from dindkit.engine import load
from dindkit.engine.discover import Engine
from dindkit.image.build import BuildOptions, build
from dindkit.progress import Progress
from dindkit.project import Project
from tests.engine.dind import WEB, Containers, Dind

pytestmark = pytest.mark.engine

#: Takes IPv4 away before the entrypoint, as a network of IPv6 alone gives none.
ALONE = ["sh", "-ec", 'ip -4 address flush dev eth0; exec dockerd-entrypoint.sh "$@"', "sh"]
ASK = "exec 3<>/dev/tcp/peer6/80 && echo GET / >&3 && tail -n 1 <&3"


@pytest.fixture(scope="module")
def network(shared_containers: Containers) -> Network:
    pools = [IPAMPool(subnet="fd00:d1d:6::/64")]
    return shared_containers.network(enable_ipv6=True, ipam=IPAMConfig(pool_configs=pools))


@pytest.fixture(scope="module")
def peer(shared_containers: Containers, network: Network) -> Dind:
    """Start a web server of IPv6, called `peer6` in that network."""
    web = WEB.replace("INET", "IP").replace("LocalPort", 'LocalHost => "::", LocalPort')
    script = ("perl", "-e", web)
    image = shared_containers.base.reference
    return shared_containers.start(*script, name="peer6", privileged=False, network=network.name, image=image)


@pytest.fixture(scope="module")
def registry(
    engine: Engine, project: Project, progress: Progress, shared_containers: Containers, network: Network
) -> str:
    """Start Debian's docker-registry, called `registry6` in that network, and give its IPv6 address."""
    image = build(project, BuildOptions(image="registry"), progress)
    load.load(engine, image, progress)
    started = shared_containers.start(
        image=image.reference,
        name="registry6",
        privileged=False,
        network=network.name,
    )
    started.container.reload()
    networks = started.container.attrs["NetworkSettings"]["Networks"]
    return str(networks[network.name]["GlobalIPv6Address"])


def bridge(docker: Dind) -> list[dict[str, str]]:
    return list(json.loads(docker("docker network inspect bridge -f '{{json .IPAM.Config}}'")))


class TestSmallMtu:
    @pytest.mark.parametrize("how", ["flag", "environment", "file", "route", "route6"])
    def test_means_no_ipv6(self, containers: Containers, network: Network, how: str) -> None:
        """Linux has none with an MTU under 1280, and dockerd would not start."""
        route = f"ip {'-6' if how == 'route6' else '-4'} route"
        shrink = f'set -- $({route} show default); {route} change "$@" mtu 1200; exec dockerd-entrypoint.sh'
        docker = containers.daemon(
            *(["--mtu=1200"] if how == "flag" else []),
            environment={"DIND_MTU": "1200"} if how == "environment" else {},
            files={"/etc/docker/daemon.json": '{"mtu": 1200}'} if how == "file" else {},
            entrypoint=["sh", "-ec", shrink] if how.startswith("route") else None,
            network=network.name,
        ).load(containers.base)
        assert docker.nested("cat /sys/class/net/eth0/mtu") == "1200"
        assert docker("docker network inspect bridge -f '{{.EnableIPv6}}'") == "false"
        assert docker("docker info -f '{{.ExperimentalBuild}}'") == "false"
        assert any(
            "IPv4 alone, since Linux has no IPv6 with an MTU under 1280" in line for line in docker.said()
        )

    def test_just_large_enough(self, containers: Containers, network: Network) -> None:
        docker = containers.daemon("--mtu=1280", network=network.name)
        assert docker("docker network inspect bridge -f '{{.EnableIPv6}}'") == "true"

    def test_and_ipv6_both_asked_for(self, containers: Containers) -> None:
        file = {"ipv6": True, "fixed-cidr-v6": "fd00:1::/64", "mtu": 1200}
        code, output, _ = containers.answer(files={"/etc/docker/daemon.json": json.dumps(file)})
        assert code == 1
        assert "IPv6 was asked for, and an MTU of 1200" in output

    def test_of_the_route_gives_way_to_ipv6_asked_for(self, containers: Containers) -> None:
        network = containers.network(options={"com.docker.network.driver.mtu": "1200"})
        file = {"ipv6": True, "fixed-cidr-v6": "fd00:1::/64"}
        docker = containers.daemon(network=network.name, files={"/etc/docker/daemon.json": json.dumps(file)})
        assert "mtu 1280" in docker("ip link show docker0")

    def test_on_a_data_root_that_had_ipv6(self, containers: Containers, network: Network) -> None:
        volume = {containers.volume().name: {"bind": "/var/lib/docker"}}
        containers.daemon(network=network.name, volumes=volume, hostname="same").stop()
        containers.daemon("--mtu=1200", network=network.name, volumes=volume, hostname="same")


class TestBesideIpv4:
    @pytest.mark.parametrize("pools", ["", "base=10.210.0.0/16,size=24"])
    def test_ipv4_comes_first(self, containers: Containers, network: Network, pools: str) -> None:
        """Templates read the first entry."""
        docker = containers.daemon(network=network.name, environment={"DIND_DEFAULT_ADDRESS_POOLS": pools})
        for _ in range(2):
            first, second = bridge(docker)
            assert first["Gateway"].startswith("10.210." if pools else "172.17.")
            assert ":" in second["Subnet"]
            docker.container.restart()
            docker.ready()

    @pytest.mark.parametrize("pools", ["", "base=10.210.0.0/16,size=24"])
    def test_ipv4_comes_first_after_a_stop_at_once(
        self, containers: Containers, network: Network, pools: str
    ) -> None:
        """Before the entrypoint has looked at the bridge that dockerd has made."""
        late = '#!/bin/sh\n[ "$1" != 0.5 ] || set -- 30\nexec /usr/bin/sleep "$@"\n'
        docker = containers.daemon(
            network=network.name,
            files={"/usr/local/bin/sleep": late},
            environment={"DIND_DEFAULT_ADDRESS_POOLS": pools},
        )
        before = bridge(docker)
        docker.container.restart()
        assert bridge(docker.ready())[0] == before[0]

    def test_subnets_of_the_user_hold(self, containers: Containers, network: Network) -> None:
        docker = containers.daemon("--bip=10.55.0.1/24", network=network.name)
        assert bridge(docker)[0] == {"Subnet": "10.55.0.0/24", "Gateway": "10.55.0.1"}

    def test_networks_on_an_old_data_root_keep_theirs(self, containers: Containers, network: Network) -> None:
        """A first start without IPv6, and a network of the user's where the default bridge could be."""
        volume = {containers.volume().name: {"bind": "/var/lib/docker"}}
        before = containers.daemon("--bip=10.55.0.1/24", network=containers.network().name, volumes=volume)
        before("docker network create --subnet=172.17.0.0/16 kept")
        before.stop()
        docker = containers.daemon(network=network.name, volumes=volume)
        assert docker("docker network inspect kept -f '{{(index .IPAM.Config 0).Subnet}}'") == "172.17.0.0/16"

    def test_no_error_is_logged_and_experimental_is_said(
        self, containers: Containers, network: Network
    ) -> None:
        docker = containers.daemon(network=network.name)
        docker.container.restart()
        docker.ready()
        assert "level=error" not in docker.log()
        on = docker("docker info -f '{{.ExperimentalBuild}}'")
        assert on == str(any('"experimental" is on' in line for line in docker.said())).lower()

    def test_experimental_refused_means_no_ipv6(self, containers: Containers, network: Network) -> None:
        file = {"/etc/docker/daemon.json": '{"experimental": false}'}
        docker = containers.daemon(network=network.name, files=file)
        assert docker("docker info -f '{{.ExperimentalBuild}}'") == "false"


class TestAlone:
    @pytest.fixture(scope="class")
    @classmethod
    def docker(cls, shared_containers: Containers, network: Network, peer: Dind) -> Dind:
        narrow = ALONE[2].replace(
            "exec", "ip -6 route change default via fd00:d1d:6::1 dev eth0 mtu 1390; exec"
        )
        return shared_containers.daemon(network=network.name, entrypoint=["sh", "-ec", narrow, "sh"]).load(
            shared_containers.base
        )

    def test_names_and_ways(self, docker: Dind) -> None:
        assert docker("curl -s http://peer6/") == "nested"
        assert docker.nested(ASK) == "nested"

    def test_on_a_nested_network_of_ipv6(self, docker: Dind) -> None:
        docker("docker network create --ipv6 --subnet=fd00:d1d:7::/64 own")
        assert docker.nested(ASK, "--network=own") == "nested"
        assert docker.nested("cat /sys/class/net/eth0/mtu", "--network=own") == "1390"

    def test_mtu(self, docker: Dind) -> None:
        assert docker.nested("cat /sys/class/net/eth0/mtu") == "1390"

    @pytest.fixture(scope="class")
    @classmethod
    def pair(cls, shared_containers: Containers, network: Network) -> tuple[Dind, Dind]:
        """Start a daemon that has an image to push, and one that has none."""
        settings = {"DIND_INSECURE_REGISTRIES": "registry6:5000,fd00:d1d:6::/64"}
        options: dict[str, Any] = {"network": network.name, "entrypoint": ALONE, "environment": settings}
        first = shared_containers.daemon(**options).load(shared_containers.base)
        return first, shared_containers.daemon(**options)

    @pytest.mark.parametrize("by", ["name", "address"])
    def test_push_and_pull(self, pair: tuple[Dind, Dind], registry: str, by: str) -> None:
        host = "registry6:5000" if by == "name" else f"[{registry}]:5000"
        first, other = pair
        other("docker image prune --all --force")  # what it has is what it pulls
        assert first("ip -4 -oneline address show dev eth0") == ""
        first.docker("tag", "base", f"{host}/{by}:1")
        first.docker("push", f"{host}/{by}:1")
        other.docker("pull", f"{host}/{by}:1")
        assert other.docker("run", "--rm", f"{host}/{by}:1", "echo", "pulled") == "pulled"

    def test_a_swarm(self, containers: Containers, network: Network) -> None:
        docker = containers.daemon(network=network.name, entrypoint=ALONE, environment={"DIND_SWARM": "init"})
        assert docker("docker info -f '{{.Swarm.NodeAddr}}'").startswith("fd00:d1d:6::")

    def test_is_not_ready_before_the_swarm(self, containers: Containers, network: Network) -> None:
        """Nor where somebody asks while dockerd is asked for its version, and the socket holds them."""
        slow = '#!/bin/sh\n[ "$1" != --version ] || sleep 1\nexec /usr/sbin/dockerd "$@"\n'
        docker = containers.daemon(
            network=network.name,
            entrypoint=ALONE,
            environment={"DIND_SWARM": "init"},
            files={"/usr/local/sbin/dockerd": slow},
        )
        assert docker("docker info -f '{{.Swarm.NodeAddr}}'").startswith("fd00:d1d:6::")
