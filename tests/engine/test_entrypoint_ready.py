"""Ready is knowable: the health check, dind-wait, with-dockerd."""

from __future__ import annotations

from typing import Any

import pytest

from tests.engine.dind import Containers, until

pytestmark = pytest.mark.engine


def test_health_check_of_the_image(containers: Containers) -> None:
    docker = containers.start()

    def healthy() -> bool:
        docker.container.reload()
        return bool(docker.container.attrs["State"]["Health"]["Status"] == "healthy")

    assert until(healthy)


def test_health_wants_every_listener(containers: Containers) -> None:
    docker = containers.daemon("--host=tcp://0.0.0.0:2375")
    assert docker.run("dind-health") == (0, "")
    docker("echo tcp://0.0.0.0:2399 >>/run/dind/listeners")
    code, output = docker.run("dind-health")
    assert code == 1
    assert "tcp://0.0.0.0:2399" in output


def test_health_sees_a_daemon_that_hangs(containers: Containers) -> None:
    docker = containers.daemon()
    docker("kill -STOP $(cat /var/run/docker.pid)")
    assert docker.run("dind-health")[0] == 1
    docker("kill -CONT $(cat /var/run/docker.pid)")
    assert docker.run("dind-health")[0] == 0


@pytest.mark.parametrize("init", [False, True])
def test_a_client_is_not_unhealthy(containers: Containers, init: bool) -> None:
    """Nor with an init, whose command line goes on naming the entrypoint."""
    client = containers.client("sleep", "60", init=init)
    assert client.run("dind-health") == (0, "")


class TestWait:
    def test_of_a_client_is_for_the_daemon_that_it_would_talk_to(self, containers: Containers) -> None:
        network = str(containers.network().name)
        endpoint = containers.engine.client.api.create_endpoint_config(aliases=["docker"])
        environment = {"DOCKER_TLS_CERTDIR": ""}
        options: dict[str, Any] = {"network": network, "environment": environment, "init": True}
        client = containers.start("sleep", "60", privileged=False, **options)
        code, output = client.run("dind-wait", "0")
        assert code == 1
        assert "not ready after 0 s" in output
        containers.start(network=network, networking_config={network: endpoint}, environment=environment)
        assert client.run("dind-wait", "60") == (0, "")

    def test_that_was_answered_before_its_own_daemon_was_to_be_seen(self, containers: Containers) -> None:
        """In a container's first moment nothing tells that there is to be one, but its socket is next.

        Asked once only: the reason why it is not ready has to be the daemon's from the first answer on.
        """
        docker = containers.client("sleep", "60")
        appear = (
            "#!/bin/sh\nreadlink /proc/self/ns/mnt >/run/dind/owner\necho unix:///none >/run/dind/listeners\n"
        )
        docker("mkdir /run/dind")
        docker.put("/usr/local/bin/docker", appear, 0o755)
        code, output = docker.run("dind-wait", "0")
        assert code == 1
        assert "no answer from the daemon at unix:///none" in output

    def test_refuses_what_is_no_number(self, containers: Containers) -> None:
        code, output, _ = containers.answer("dind-wait", "soon", privileged=False)
        assert code == 2
        assert "'soon' is not a number" in output


class TestWithDockerd:
    def test_runs_the_command_with_docker_ready(self, containers: Containers) -> None:
        code, output, _ = containers.answer(
            "with-dockerd", "sh", "-c", "docker info -f '{{.OSType}}'; exit 7"
        )
        assert (code, output) == (7, "linux\n")

    def test_stops_the_daemon_in_order(self, containers: Containers) -> None:
        docker = containers.start("with-dockerd", "true")
        assert docker.wait() == 0
        docker.container.commit("dindkit/test-with-dockerd")
        try:
            log = containers.engine.client.containers.run(
                "dindkit/test-with-dockerd", ["cat", "/var/log/dockerd.log"], remove=True
            ).decode()
        finally:
            containers.engine.client.images.remove("dindkit/test-with-dockerd")
        assert "Daemon shutdown complete" in log

    def test_fails_with_the_daemons_last_lines(self, containers: Containers) -> None:
        code, output, seconds = containers.answer("with-dockerd", "echo", "never", privileged=False)
        assert code == 1
        assert "did not start" in output
        assert "--privileged" in output
        assert "never" not in output
        assert seconds < 10

    def test_fails_where_its_log_is_no_file(self, containers: Containers) -> None:
        log = {"DIND_LOG": "/dev/stderr"}
        code, output, _ = containers.answer(
            "with-dockerd", "echo", "never", privileged=False, environment=log
        )
        assert code == 1
        assert "did not start" in output
        assert output.count("--privileged") == 1

    @pytest.mark.parametrize("init", [False, True])
    def test_hands_a_signal_to_the_command(self, containers: Containers, init: bool) -> None:
        script = 'trap "echo got it; exit 3" TERM; echo up; while :; do sleep 0.1; done'
        docker = containers.start("with-dockerd", "sh", "-c", script, init=init)
        assert until(lambda: "up" in docker.log())
        code, _ = docker.stop()
        assert code == 3
        assert "got it" in docker.log()

    def test_gives_the_command_its_input(self, containers: Containers) -> None:
        code, output, _ = containers.answer("sh", "-c", "echo words | with-dockerd cat")
        assert (code, output) == (0, "words\n")

    def test_without_a_command_says_how(self, containers: Containers) -> None:
        code, output, _ = containers.answer("with-dockerd", privileged=False)
        assert code == 2
        assert output.startswith("usage: with-dockerd")
