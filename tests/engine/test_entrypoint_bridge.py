"""Whose docker0 it is where there is one already, and that no nested network hides what is outside."""

from __future__ import annotations

import ipaddress
import json
from typing import Any

import pytest

from tests.engine.dind import WEB, Containers, Dind, until
from tests.engine.test_entrypoint_network import NAMES

pytestmark = pytest.mark.engine

REFUSED = "dind: error: the network of this container (--network host?) has another Docker's docker0"
SOCKET = ("dockerd", "--host=unix:///var/run/docker.sock")


def beside(docker: Dind) -> dict[str, Any]:
    """Return the options of a container in the same network namespace: for it, `docker` is the host."""
    return {"network_mode": f"container:{docker.container.id}"}


@pytest.fixture(scope="module")
def owner(shared_containers: Containers) -> Dind:
    """Start a daemon with a container on its docker0."""
    docker = shared_containers.daemon().load(shared_containers.base)
    docker.docker("run", "--detach", "--name=web", "--publish=8080:80", "base", "perl", "-e", WEB)
    return docker


class TestOfALivingDaemon:
    @pytest.mark.parametrize(
        "options",
        [(), ("--bridge=none",), ("--iptables=false",), ("--bridge=docker0",), ("--bridge=lo",)],
        ids=" ".join,
    )
    def test_is_neither_taken_over_nor_deleted(
        self, containers: Containers, owner: Dind, options: tuple[str, ...]
    ) -> None:
        before = owner("ip -o link | sed 's/ qlen.*//'; iptables-save -t nat | grep -v '^[:#]'")
        code, output, seconds = containers.answer(*SOCKET, *options, **beside(owner))
        assert code == 1
        (line,) = (line for line in output.splitlines() if "error" in line)
        assert line.startswith(REFUSED)
        assert "--bridge=NAME" in line
        assert seconds < 10
        assert owner("ip -o link | sed 's/ qlen.*//'; iptables-save -t nat | grep -v '^[:#]'") == before
        assert owner(f"curl -s http://{owner.address}:8080/") == "nested"

    def test_the_way_out_that_is_named_works(self, containers: Containers, owner: Dind) -> None:
        owner("ip link add mine type bridge && ip address add 10.77.0.1/24 dev mine && ip link set mine up")
        rules = ("--iptables=false", "--ip6tables=false")
        guest = containers.daemon(*SOCKET, "--bridge=mine", *rules, **beside(owner)).load(containers.base)
        assert guest.nested("hostname -I").startswith("10.77.0.")
        assert guest.stop()[0] == 0
        assert owner(f"curl -s http://{owner.address}:8080/") == "nested"

    def test_nor_that_of_one_that_has_only_begun(self, containers: Containers) -> None:
        first = containers.start()
        assert until(lambda: "docker0" in first("cat /proc/net/dev"))
        code, output, _ = containers.answer(*SOCKET, **beside(first))
        assert (code, REFUSED in output) == (1, True)
        first.ready()


class TestOfNobodyAlive:
    @pytest.fixture
    def host(self, containers: Containers) -> Dind:
        """Start a container that holds a network namespace, and does nothing in it."""
        return containers.start("sleep", "600")

    def test_ours_is_taken_over(self, containers: Containers, host: Dind) -> None:
        """A pod's network namespace outlives its containers."""
        first = containers.daemon(**beside(host)).load(containers.base)
        first.docker("run", "--detach", "base", "sleep", "600")
        assert until(lambda: "alias dind" in host("ip link show docker0"))
        first.container.kill()
        second = containers.daemon(**beside(host)).load(containers.base)
        assert second.nested("echo there") == "there"
        second.stop()
        containers.daemon("--bridge=none", **beside(host))
        assert "docker0" not in host("ip link")

    def test_ours_with_a_container_that_has_not_gone_yet_is_taken_over(
        self, containers: Containers, host: Dind
    ) -> None:
        host("ip link add docker0 type bridge && ip link set docker0 alias dind")
        host("ip link add left type veth peer name over && ip link set left master docker0")
        containers.daemon(**beside(host))

    def test_that_of_a_stopped_daemon_is_taken_over(self, containers: Containers, host: Dind) -> None:
        """As after `systemctl stop docker`, which leaves docker0 and its own docker.sock."""
        host("ip link add docker0 type bridge && ip address add 172.29.0.1/16 dev docker0")
        docker = containers.daemon(**beside(host))
        assert docker("docker network inspect bridge -f '{{(index .IPAM.Config 0).Gateway}}'") == "172.29.0.1"

    def test_somebodys_with_containers_is_refused(self, containers: Containers, host: Dind) -> None:
        """Containers can outlive their daemon: `live-restore`."""
        host("ip link add docker0 type bridge && ip link add left type veth peer name over")
        host("ip link set left master docker0")
        for options in ((), ("--bridge=none",)):
            code, output, _ = containers.answer(*SOCKET, *options, **beside(host))
            assert (code, REFUSED in output) == (1, True)
        assert "docker0" in host("ip link show left")
        host("ip link add mine type bridge && ip address add 10.77.0.1/24 dev mine")
        containers.daemon(*SOCKET, "--bridge=mine", **beside(host))


class TestOutside:
    @pytest.fixture(scope="class")
    @classmethod
    def gateway(cls, shared_containers: Containers) -> str:
        """Return the address of the engine's docker0; a name server and a web server listen there."""
        bridge = shared_containers.engine.client.networks.get("bridge").attrs["IPAM"]["Config"]
        address = str(next(one["Gateway"] for one in bridge if "." in one.get("Gateway", "")))
        web = WEB.replace("LocalPort => 80", "LocalPort => 8053")
        for script in (NAMES, web):
            script = script.replace("LocalPort", f"LocalAddr => '{address}', LocalPort")
            shared_containers.start(
                "perl",
                "-e",
                script,
                privileged=False,
                network_mode="host",
                image=shared_containers.base.reference,
            )
        return address

    @pytest.fixture(scope="class")
    @classmethod
    def docker(cls, shared_containers: Containers, gateway: str) -> Dind:
        """Start a daemon in a user-defined network, which learns of the gateway by comments and by a name."""
        network = str(shared_containers.network().name)
        return shared_containers.daemon(
            network=network, dns=[gateway], extra_hosts={"gate": "host-gateway"}
        ).load(shared_containers.base)

    def test_name_servers_of_the_outer_network_are_not_hidden(self, docker: Dind) -> None:
        assert docker("getent hosts outside.example").split()[0] == "203.0.113.7"
        assert docker.nested("getent hosts outside.example").split()[0] == "203.0.113.7"

    def test_the_hosts_gateway_is_reached(self, docker: Dind, gateway: str) -> None:
        assert docker("curl -s http://gate:8053/") == "nested"
        ask = f"exec 3<>/dev/tcp/{gateway}/8053 && echo GET / >&3 && tail -n 1 <&3"
        assert docker.nested(ask) == "nested"

    def test_no_nested_network_gets_their_subnet(self, docker: Dind, gateway: str) -> None:
        docker("docker network create later")
        found = json.loads(docker("docker network inspect bridge later"))
        for network in found:
            subnet = ipaddress.ip_network(network["IPAM"]["Config"][0]["Subnet"])
            assert ipaddress.ip_address(gateway) not in subnet

    def test_after_a_restart(self, docker: Dind) -> None:
        docker.container.restart()
        docker.ready()
        assert docker.nested("getent hosts outside.example").split()[0] == "203.0.113.7"
        assert not [line for line in docker.said() if "could be made" in line]

    @pytest.mark.parametrize("by", ["name-server", "host"])
    def test_each_by_itself(self, shared_containers: Containers, gateway: str, by: str) -> None:
        options: dict[str, Any] = {
            "name-server": {"dns": [gateway]},
            "host": {"extra_hosts": {"gate": gateway}},
        }
        docker = shared_containers.daemon(network=shared_containers.network().name, **options[by])
        subnet = docker("docker network inspect bridge -f '{{(index .IPAM.Config 0).Subnet}}'")
        assert ipaddress.ip_address(gateway) not in ipaddress.ip_network(subnet)
