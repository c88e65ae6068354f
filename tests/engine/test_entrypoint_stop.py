"""A stop in order, within a bound, and a data root that shows no trace of it."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from tests.engine.dind import STUBBORN, Containers, Dind, until

pytestmark = pytest.mark.engine


def exit_codes(docker: Dind) -> list[int]:
    states = json.loads(docker("docker inspect $(docker ps -aq)"))
    assert {state["State"]["Status"] for state in states} == {"exited"}
    return [state["State"]["ExitCode"] for state in states]


def test_stubborn_containers_do_not_delay_the_stop(containers: Containers) -> None:
    """Ten seconds is what `docker stop` allows, and what docker-library's image needs to be killed.

    On a network without IPv6: with it, dockerd 26 complains of a route to a bridge that is still down.
    """
    docker = containers.daemon(network=containers.network().name).load(containers.base)
    for _ in range(3):
        docker.docker("run", "--detach", "base", "bash", "-c", STUBBORN)
    code, seconds = docker.stop(60)
    assert code == 0
    assert seconds < 10  # 137 and 10 s before; `invoke bench boot` prints the exact figure
    assert docker.files("/run", ".pid", ".sock") == []
    before = len(docker.log())
    docker.start().ready()
    assert exit_codes(docker) == [137] * 3
    for word in ("recover", "stale", "cleaning up", "level=error", "dirty", "warning:"):
        assert word not in docker.log()[before:]


def test_the_bound_is_the_users(containers: Containers) -> None:
    """Longer than a container needs: it ends by itself. Nought: at once."""
    docker = containers.daemon(environment={"DIND_STOP_TIMEOUT": "20"}).load(containers.base)
    docker.docker(
        "run", "--detach", "base", "bash", "-c", "trap 'sleep 3; exit 5' TERM; sleep 60 & wait; wait"
    )
    code, seconds = docker.stop(60)
    assert code == 0
    assert 3 <= seconds < 15
    docker.start().ready()
    assert exit_codes(docker) == [5]


def test_restart_policies_hold(containers: Containers) -> None:
    """Our stop is the daemon's, not the user's: what is to restart with the daemon does."""
    docker = containers.daemon().load(containers.base)
    for policy in ("unless-stopped", "always", "no"):
        docker.docker(
            "run", "--detach", "--restart", policy, "--name", policy, "base", "bash", "-c", STUBBORN
        )
    assert docker.stop()[0] == 0
    docker.start().ready()
    assert docker("docker ps --format '{{.Names}}' | sort").split() == ["always", "unless-stopped"]


def test_containers_of_the_host_are_left_alone(containers: Containers) -> None:
    """With the host's PID namespace, their processes are in sight."""
    bystander = containers.start("sleep", "infinity", privileged=False)
    docker = containers.daemon(pid_mode="host").load(containers.base)
    docker.docker("run", "--detach", "base", "bash", "-c", STUBBORN)
    code, seconds = docker.stop(60)
    assert code == 0
    assert seconds < 10
    bystander.container.reload()
    assert bystander.container.status == "running"


def test_paused_containers_end_too(containers: Containers) -> None:
    docker = containers.daemon().load(containers.base)
    docker.docker("run", "--detach", "--name", "paused", "base", "bash", "-c", STUBBORN)
    docker.docker("pause", "paused")
    code, seconds = docker.stop(60)
    assert code == 0
    assert seconds < 20


@pytest.mark.parametrize("merged", [False, True])
def test_interrupt_and_reload(containers: Containers, merged: bool) -> None:
    """Ctrl-C stops as SIGTERM does; SIGHUP brings what has changed in daemon.json to dockerd."""
    environment = {} if not merged else {"DIND_REGISTRY_MIRRORS": "http://mirror.example"}
    docker = containers.daemon(
        environment=environment, files={"/etc/docker/daemon.json": '{"labels": ["a=1"]}'}
    )
    docker('echo \'{"labels": ["a=2"]}\' >/etc/docker/daemon.json')
    docker.container.kill("SIGHUP")
    docker("timeout 30 sh -c 'until docker info -f \"{{.Labels}}\" | grep a=2; do sleep 0.1; done'")
    docker.container.kill("SIGINT")
    assert docker.wait() == 0
    assert until(lambda: "Daemon shutdown complete" in docker.log())


def test_interrupt_at_a_terminal_leaves_containers_their_orderly_end(containers: Containers) -> None:
    """Ctrl-C of `docker run -it` goes to the whole foreground process group: daemons must not be in it."""
    docker = containers.daemon(tty=True, stdin_open=True, environment={"DIND_STOP_TIMEOUT": "8"}).load(
        containers.base
    )
    for _ in range(3):
        docker.docker("run", "--detach", "base", "bash", "-c", "trap 'sleep 1; exit 5' TERM; sleep 60 & wait")
    terminal = cast(Any, docker.container.attach_socket(params={"stdin": 1, "stream": 1}))
    terminal._sock.sendall(b"\x03")  # what docker-py returns itself can only be read
    assert docker.wait() == 0
    terminal.close()
    docker.start().ready()
    assert exit_codes(docker) == [5] * 3


def test_stop_while_it_starts(containers: Containers) -> None:
    docker = containers.start()
    assert until(docker.has_init)
    code, seconds = docker.stop()
    assert code in (0, 143)
    assert seconds < 10


def test_the_code_of_a_daemon_that_ended_while_the_shell_looked_away(containers: Containers) -> None:
    """On a busy machine dockerd may be gone before the entrypoint comes to wait for it once more."""
    script = """
        . /usr/local/lib/dind/log.sh
        . /usr/local/lib/dind/supervise.sh
        STATE=/run stopping='' limit=''
        trap 'interrupted=yes; stop; sleep 1' TERM
        sh -c 'trap "exit 7" TERM; while :; do sleep 0.05; done' &
        DOCKERD=$!
        { sleep 0.3; kill -TERM $$; } &
        await_dockerd
        echo "code $code"
    """
    _, output, _ = containers.answer("sh", "-euc", script, privileged=False)
    assert output == "code 7\n"
