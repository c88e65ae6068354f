"""What nested networks take over from the outer one: names, MTU, IPv6; and the way in."""

from __future__ import annotations

import urllib.request
from typing import Any

import pytest
from docker.types import IPAMConfig, IPAMPool

from tests.engine.dind import WEB, Containers, Dind, until

pytestmark = pytest.mark.engine

#: A name server that knows one name: the address of outside.example is 203.0.113.7.
NAMES = r"""
use IO::Socket::INET;
my $s = IO::Socket::INET->new(LocalPort => 53, Proto => "udp") or die;
while ($s->recv(my $q, 512)) {
    my ($id, $question) = unpack("n x10 a*", $q);
    my ($name) = $question =~ /^(.*?\0)/s;
    my $type = unpack("n", substr($question, length $name, 2));
    my $yes = $name eq "\7outside\7example\0" && $type == 1;
    my $head = pack("n6", $id, $yes ? 0x8180 : 0x8183, 1, $yes ? 1 : 0, 0, 0);
    my $answer = $yes ? pack("n3 N n C4", 0xc00c, 1, 1, 60, 4, 203, 0, 113, 7) : "";
    $s->send($head . substr($question, 0, length($name) + 4) . $answer);
}
"""


def mtu(dind: Dind, *options: str) -> str:
    return dind.nested("cat /sys/class/net/eth0/mtu", *options)


def jumps(dind: Dind) -> int:
    """Return how many rules send questions to our chain, in whichever backend it is."""
    rules = dind("for b in nft legacy; do iptables-$b -t nat -S PREROUTING 2>/dev/null; done")
    return rules.count("-j DOCKER-DIND-RESOLVER")


class TestNames:
    @pytest.fixture(scope="class")
    @classmethod
    def docker(cls, shared_containers: Containers) -> Dind:
        """Start a daemon in a user-defined network, with a container beside it and an outside name server."""
        network = str(shared_containers.network().name)
        other: dict[str, Any] = {
            "privileged": False,
            "network": network,
            "image": shared_containers.base.reference,
        }
        server = shared_containers.start("perl", "-e", NAMES, **other)
        shared_containers.start("sleep", "600", name="dind-peer", **other)
        docker = shared_containers.daemon(network=network, dns=[server.address]).load(shared_containers.base)
        docker("docker network create own")
        return docker

    @pytest.mark.parametrize("options", [(), ("--network=own",), ("--network=host",)])
    def test_of_the_outer_networks_containers(self, docker: Dind, options: tuple[str, ...]) -> None:
        found = docker("getent hosts dind-peer")
        assert docker.nested("getent hosts dind-peer", *options).split()[0] == found.split()[0]

    @pytest.mark.parametrize("options", [(), ("--network=own",)])
    def test_of_outside(self, docker: Dind, options: tuple[str, ...]) -> None:
        assert docker.nested("getent hosts outside.example", *options).split()[0] == "203.0.113.7"

    def test_that_nobody_has(self, docker: Dind) -> None:
        assert docker.run("docker", "run", "--rm", "base", "getent", "hosts", "nobody.example")[0] == 2

    def test_over_tcp(self, docker: Dind) -> None:
        """Long answers come that way; the connection is what can fail."""
        script = "grep -m1 nameserver /etc/resolv.conf | (read _ a; exec 3<>/dev/tcp/$a/53 && echo open)"
        assert docker.nested(script) == "open"

    def test_after_a_restart(self, docker: Dind) -> None:
        docker.container.restart()
        docker.ready()
        assert docker.nested("getent hosts outside.example").split()[0] == "203.0.113.7"
        assert jumps(docker) == 1

    def test_in_a_network_namespace_that_outlives_the_daemon(
        self, shared_containers: Containers, docker: Dind
    ) -> None:
        """That of another container, as behind a VPN: the rules of the first start are still there."""
        network = next(iter(docker.container.attrs["NetworkSettings"]["Networks"]))
        owner = shared_containers.start("sleep", "600", privileged=False, network=network)
        guest = shared_containers.daemon(network_mode=f"container:{owner.container.id}")
        guest.container.restart()
        guest.ready().load(shared_containers.base)
        assert (
            guest.nested("getent hosts dind-peer").split()[0] == docker("getent hosts dind-peer").split()[0]
        )
        assert jumps(guest) == 1

    def test_nobody_else_reaches_the_loopback_through_us(self, docker: Dind) -> None:
        switches = "/proc/sys/net/ipv4/conf/eth0/route_localnet /proc/sys/net/ipv4/conf/all/route_localnet"
        assert docker(f"cat {switches}").split() == ["0", "0"]

    def test_a_users_servers_hold(self, shared_containers: Containers, docker: Dind) -> None:
        network = next(iter(docker.container.attrs["NetworkSettings"]["Networks"]))
        other = shared_containers.daemon(network=network, environment={"DIND_DNS": "10.9.9.9"}).load(
            shared_containers.base
        )
        assert other.nested("grep ^nameserver /etc/resolv.conf") == "nameserver 10.9.9.9"


def test_without_iptables_names_are_left_alone(containers: Containers) -> None:
    """There is nothing then that could pass questions on; the daemon runs all the same."""
    docker = containers.daemon("--iptables=false", "--ip6tables=false", network=containers.network().name)
    assert any("cannot be passed on" in line for line in docker.said())


class TestMtu:
    def test_of_a_small_outer_network_is_taken_over(self, containers: Containers) -> None:
        network = containers.network(options={"com.docker.network.driver.mtu": "1371"})
        docker = containers.daemon(network=network.name).load(containers.base)
        docker("docker network create own")
        assert mtu(docker) == mtu(docker, "--network=own") == "1371"
        assert any("MTU of nested networks: 1371" in line for line in docker.said())

    def test_of_the_user_holds(self, containers: Containers) -> None:
        network = containers.network(options={"com.docker.network.driver.mtu": "1371"})
        docker = containers.daemon("--mtu=1300", network=network.name).load(containers.base)
        assert mtu(docker) == "1300"

    def test_of_a_usual_network_is_left_alone(self, containers: Containers) -> None:
        network = containers.network(options={"com.docker.network.driver.mtu": "1500"})
        docker = containers.daemon(network=network.name)
        assert not [line for line in docker.said() if "MTU" in line]


class TestIpv6:
    def test_is_there_where_the_outer_network_has_it(self, containers: Containers) -> None:
        pools = [IPAMPool(subnet="fd00:d1d::/64")]
        network = containers.network(enable_ipv6=True, ipam=IPAMConfig(pool_configs=pools))
        web = WEB.replace("INET", "IP").replace("LocalPort", 'LocalHost => "::", LocalPort')
        peer = containers.start(
            "perl", "-e", web, privileged=False, network=network.name, image=containers.base.reference
        )
        peer.container.reload()
        address = peer.container.attrs["NetworkSettings"]["Networks"][network.name]["GlobalIPv6Address"]
        docker = containers.daemon(network=network.name).load(containers.base)
        ask = f"exec 3<>/dev/tcp/{address}/80 && echo GET / >&3 && tail -n 1 <&3"
        assert docker(f"bash -c '{ask}'") == "nested"
        assert docker.nested(ask) == "nested"
        docker.container.restart()
        docker.ready()
        assert docker.nested(ask) == "nested"

    def test_is_left_out_where_it_has_none(self, containers: Containers) -> None:
        """On a network of our own: the engine's default bridge has IPv6 where its host has."""
        docker = containers.daemon(network=containers.network().name)
        assert docker("docker network inspect bridge -f '{{.EnableIPv6}}'") == "false"


@pytest.mark.parametrize("network", ["bridge", "own"])
def test_a_published_web_server_is_reached_from_the_host(daemon: Dind, network: str) -> None:
    port = {"bridge": 8081, "own": 8082}[network]
    if network == "own":
        daemon("docker network create own")
    daemon.docker(
        "run", "--detach", f"--publish={port}:80", f"--network={network}", "base", "perl", "-e", WEB
    )
    address = f"http://{daemon.address}:{port}/"

    def answers() -> bool:
        try:
            with urllib.request.urlopen(address, timeout=3) as page:
                return bool(page.read() == b"nested\n")
        except OSError:
            return False

    assert until(answers)
