"""Killed at any moment, and started again on the same data root."""

from __future__ import annotations

import pytest

from tests.engine.dind import STUBBORN, Containers, Dind, until

pytestmark = pytest.mark.engine

#: What is killed with SIGKILL, in turns; the container itself is killed by its engine.
VICTIMS = ("dockerd", "containerd", "container")


def kill(docker: Dind, victim: str) -> None:
    """End all of it as a power cut does, beginning with one process."""
    if victim != "container":
        docker(f"kill -KILL $(pidof {victim}) && sleep 0.05", may_end=True)
    docker.container.reload()
    if victim != "dockerd" and docker.container.status == "running":
        docker.container.kill()
    docker.wait()


@pytest.mark.parametrize("times", [2 * len(VICTIMS), pytest.param(20, marks=pytest.mark.full)])
def test_kills_cost_neither_images_nor_volumes(containers: Containers, times: int) -> None:
    docker = containers.daemon().load(containers.base)
    images = docker("docker images -q")
    docker.docker(
        "run", "--name", "writer", "--volume", "kept:/kept", "base", "sh", "-c", "echo word >/kept/file"
    )
    docker.docker("run", "--detach", "--restart=always", "--name", "back", "base", "bash", "-c", STUBBORN)
    for turn in range(times):
        kill(docker, VICTIMS[turn % len(VICTIMS)])
        docker.start().ready()
        assert docker("docker images -q") == images, f"after kill {turn + 1}"
        assert docker("docker ps --format '{{.Names}}'") == "back", f"after kill {turn + 1}"
    assert docker.nested("cat /kept/file", "--volume", "kept:/kept") == "word"
    assert docker.stop()[0] == 0


def test_nested_containers_outlive_containerd(containers: Containers) -> None:
    docker = containers.daemon().load(containers.base)
    docker.docker("run", "--detach", "--name", "lives", "base", "sleep", "600")
    before = docker("docker inspect -f '{{.State.StartedAt}}' lives")
    docker("kill -KILL $(pidof containerd)")
    assert until(lambda: docker.run("docker", "run", "--rm", "base", "true")[0] == 0)
    assert docker("docker inspect -f '{{.State.StartedAt}} {{.State.Running}}' lives") == f"{before} true"
    assert "containerd ended with exit code 137; starting it again." in docker.log()


def test_containerd_that_does_not_stay_up_ends_the_container(containers: Containers) -> None:
    docker = containers.daemon()
    for _ in range(5):
        docker("kill -KILL $(pidof containerd) && sleep 1", may_end=True)
    assert docker.wait() == 1
    assert until(lambda: "containerd ends again and again (exit code 137)" in docker.log())


def test_two_daemons_on_one_data_root(containers: Containers) -> None:
    volume = {containers.volume().name: {"bind": "/var/lib/docker"}}
    first = containers.daemon(volumes=volume)
    code, output, seconds = containers.answer(volumes=volume)
    assert code == 1
    assert "another daemon is using the data root /var/lib/docker" in output
    assert seconds < 10
    code, output = first.run("dockerd-entrypoint.sh", "dockerd")
    assert code == 1
    assert "another daemon is using the data root /var/lib/docker" in output
    assert first.run("dind-health", "--daemon") == (0, "")
    assert first("docker info -f ok") == "ok"
    assert first.stop()[0] == 0
    containers.daemon(volumes=volume)


#: Who has the data root's lock open, one process id a line.
HOLDERS = """
    for open in /proc/[0-9]*/fd/*; do
        case "$(readlink "$open")" in
            /var/lib/docker/.dind.lock) echo "$open" | cut -d/ -f3 ;;
        esac
    done
"""
#: A client whose `load` does not end by itself; the daemon's own programs find it before Docker's.
SLOW_LOAD = '#!/bin/sh\ncase "$1" in load) exec sleep 600 ;; esac\nexec /usr/bin/docker "$@"\n'

#: What waits half a second for dockerd's bridge waits longer than the daemon lives.
SLOW_WAIT = '#!/bin/sh\n[ "$1" != 0.5 ] || set -- 20\nexec /usr/bin/sleep "$@"\n'


def test_one_process_holds_the_lock(containers: Containers) -> None:
    """What runs in the background holds none of it: it would keep the next daemon off the data root."""
    docker = containers.start(
        files={"/usr/local/sbin/docker": SLOW_LOAD, "/preload.tar": ""},
        environment={"DIND_PRELOAD": "/preload.tar"},
    )
    assert until(lambda: docker.run("pgrep", "-x", "sleep", "-a")[1].endswith("sleep 600"))
    assert docker("pgrep -x containerd && pgrep -x dockerd")
    [holder] = docker(HOLDERS).split()
    assert "dockerd-entrypoint.sh" in docker(f"tr '\\0' ' ' </proc/{holder}/cmdline")
    assert docker(f"pgrep -c -P {holder} dockerd-entrypo").strip() != "0"  # there is a background


def test_one_daemon_after_another_in_one_container(containers: Containers) -> None:
    script = "for n in 1 2 3; do with-dockerd true || exit; pgrep -a dockerd-entrypo; done; true"
    code, output, _ = containers.answer("sh", "-c", script, files={"/usr/local/sbin/sleep": SLOW_WAIT})
    assert (code, output) == (0, "")  # nothing of one is left when it has ended


def test_leftovers_are_cleared_away(containers: Containers) -> None:
    """Pid files that name a living process, sockets that nobody serves: what a killed container leaves."""
    listen = "use IO::Socket::UNIX; IO::Socket::UNIX->new(Local => $_, Listen => 1) or die for @ARGV"
    script = f"""
        mkdir -p /run/docker/containerd /run/containerd
        echo 1 >/run/docker/containerd/containerd.pid
        perl -e '{listen}' /run/containerd/containerd.sock /run/docker/containerd/containerd.sock
        exec dockerd-entrypoint.sh dockerd
    """
    docker = containers.daemon("-c", script, entrypoint="sh", files={"/run/docker.pid": "1"})
    assert docker("docker info -f ok") == "ok"


DOCKERD = "exec dockerd --host=unix:///var/run/docker.sock"


@pytest.mark.parametrize(
    "entrypoint", [None, ["sh", "-c", 'dockerd-entrypoint.sh "$@"', "sh"]], ids=["ours", "behind-another"]
)
def test_a_killed_container_whose_shell_becomes_dockerd_starts_again(
    containers: Containers, entrypoint: list[str] | None
) -> None:
    """The pid file of the life before names the process that the shell is now."""
    docker = containers.daemon("sh", "-c", DOCKERD, entrypoint=entrypoint)
    docker.container.kill()
    docker.wait()
    assert docker.start().ready()("docker info -f ok") == "ok"


def test_files_on_a_mount_may_be_anothers(containers: Containers) -> None:
    """CI systems share /var/run between the daemon's container and its clients."""
    shared = {containers.volume().name: {"bind": "/var/run"}}
    docker = containers.daemon(volumes=shared)
    for command in (["true"], ["sh", "-c", "exec docker version"]):
        code, output, _ = containers.answer(*command, volumes=shared)
        assert code == 0, output
    assert docker("docker info -f ok; cat /run/docker.pid").split() == ["ok", docker("pidof dockerd")]
    before = docker("find /run -type s -o -name '*.pid' | sort")
    code, output, _ = containers.answer(volumes=shared)
    assert code == 1
    assert [line for line in output.splitlines() if "error" in line] == [
        "dind: error: another daemon answers at /var/run/docker.sock, in a folder that this container shares "
        "with it: give this one a /run of its own, or run only the client in it."
    ]
    assert docker("find /run -type s -o -name '*.pid' | sort") == before
    docker.container.kill()
    docker.wait()
    docker.start().ready()
