"""Who asks early waits instead of being refused: addresses are listened on before all that takes time."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest
from docker.errors import APIError

from tests.engine.dind import Containers, until

pytestmark = pytest.mark.engine

STARTS = 6
#: Asks as soon as there is a socket, which is long before dockerd: see the next test.
RACE = """
    until [ -S /var/run/docker.sock ]; do sleep 0.01; done
    exec docker version -f '{{.Server.Os}}'
"""


def test_clients_that_race_the_daemon_on_a_loaded_machine(containers: Containers) -> None:
    """As lifecycle commands do: `docker exec` at once after `docker run`.

    With every core taken a client may run before the container's first process has come to its sockets, some
    20 ms of CPU after its start; nothing can listen before. From then on nobody is refused.
    """
    load = containers.start(
        "sh", "-c", "for n in 1 2 3 4; do while :; do :; done & done; wait", privileged=False
    )
    try:
        for _ in range(STARTS):
            docker = containers.start()
            assert docker.run("sh", "-c", RACE) == (0, "linux")
            docker.container.remove(force=True, v=True)
    finally:
        load.container.kill()


#: Holds a start up where it has not yet come to dockerd.
SLOW = {"/usr/local/sbin/iptables-nft": '#!/bin/sh\nsleep 3\nexec /usr/sbin/iptables-nft "$@"\n'}


@pytest.mark.parametrize(
    ("command", "file", "address"),
    [
        ([], "{}", "unix:///var/run/docker.sock"),
        (["--tls=false"], "{}", "tcp://127.0.0.1:2375"),
        (["dockerd", "-Hunix:///run/my.sock"], "{}", "unix:///run/my.sock"),
        (["dockerd", "--host", "tcp://127.0.0.1:2399"], "{}", "tcp://127.0.0.1:2399"),
        (["dockerd", "-H=0.0.0.0:2375", "-H", "unix://"], "{}", "unix:///var/run/docker.sock"),
        ([], '{"hosts": ["tcp://[::1]:2380", "unix:///run/my.sock"]}', "tcp://localhost:2380"),
    ],
)
def test_on_every_address(containers: Containers, command: list[str], file: str, address: str) -> None:
    docker = containers.start(*command, files={**SLOW, "/etc/docker/daemon.json": file})
    assert until(lambda: docker.run("pidof", "perl")[0] == 0)
    assert docker.run("pidof", "dockerd")[0] == 1
    time.sleep(0.5)
    assert docker.run("docker", "-H", address, "version", "-f", "{{.Server.Os}}") == (0, "linux"), (
        docker.log()
    )
    docker.ready()
    assert docker.stop()[0] == 0
    assert not docker.files("/run", ".sock")


def test_with_descriptors_inherited(containers: Containers) -> None:
    """As from rootlesskit; the sockets' own are in between."""
    inherit = 'exec 3</dev/null 5</dev/null 6</dev/null 9</dev/null; exec dockerd-entrypoint.sh "$@"'
    hosts = ("-H=tcp://127.0.0.1:2381", "-H=unix:///run/a.sock", "-H=unix:///run/b.sock")
    docker = containers.daemon(*hosts, entrypoint=["sh", "-c", inherit, "sh"])
    for path in ("/run/a.sock", "/run/b.sock", "/var/run/docker.sock"):
        assert docker.run("docker", "-H", f"unix://{path}", "info", "-f", "ok") == (0, "ok")


def test_over_tls_from_outside(containers: Containers) -> None:
    """The connection is taken, and the handshake waits for the daemon."""
    docker = containers.start(files=SLOW)
    assert until(lambda: docker.run("pidof", "perl")[0] == 0)
    time.sleep(0.5)
    with socket.create_connection((docker.address, 2376), timeout=5):
        assert docker.run("pidof", "dockerd")[0] == 1
        docker.ready()


def test_a_start_that_fails_lets_go_of_those_who_wait(containers: Containers) -> None:
    docker = containers.start(
        files={"/usr/local/sbin/iptables-nft": "#!/bin/sh\nsleep 3\nexit 1\n"},
        environment={"DOCKER_IPTABLES_LEGACY": ""},
    )
    assert until(lambda: docker.run("pidof", "perl")[0] == 0)
    time.sleep(0.5)
    before = time.monotonic()
    ended = threading.Event()

    def ask() -> None:
        with contextlib.suppress(APIError):
            docker.run("docker", "version")
        ended.set()

    threading.Thread(target=ask, daemon=True).start()
    assert ended.wait(20)
    assert time.monotonic() - before < 10
    assert docker.wait() == 1
    assert not docker.files("/run", ".sock")


TAKE = "my $s = IO::Socket::INET->new(LocalPort => 2375, Listen => 1) or die; sleep 600"


def test_a_port_that_is_taken_is_named(containers: Containers) -> None:
    owner = containers.start("perl", "-MIO::Socket::INET", "-e", TAKE, privileged=False)
    assert until(lambda: ":0947" in owner("cat /proc/net/tcp"))
    code, output, _ = containers.answer("--tls=false", network_mode=f"container:{owner.container.id}")
    assert code == 1
    assert [line for line in output.splitlines() if "error" in line] == [
        "dind: error: tcp://0.0.0.0:2375 cannot be listened on: Address already in use."
    ]


@pytest.mark.parametrize("group", ["1234", "users"])
def test_the_socket_is_the_groups(containers: Containers, group: str) -> None:
    docker = containers.daemon("--group", group)
    assert docker("stat -c '%a %g' /var/run/docker.sock").split() == [
        "660",
        docker(f"getent group {group} | cut -d: -f3") or group,
    ]


def test_a_group_that_is_not_there_is_named(containers: Containers) -> None:
    code, output, _ = containers.answer("dockerd", "--group=nobody-has-it")
    assert code == 1
    assert "dind: error: there is no group 'nobody-has-it'." in output.splitlines()
