"""Containers that are clients, wholly or at first: shells, other daemons' sockets, a shared /var/run."""

from __future__ import annotations

from typing import Any

import pytest

from tests.engine.dind import Containers, Dind, until

pytestmark = pytest.mark.engine

SOCKET = "/var/run/docker.sock"


class Terminal:
    """A container with a terminal, and what is typed there."""

    def __init__(self, containers: Containers, *command: str, **options: Any) -> None:
        self.dind = containers.create(*command, tty=True, stdin_open=True, **options)
        # Before the start: what is typed later must not be lost.
        self.socket: Any = self.dind.container.attach_socket(params={"stdin": 1, "stream": 1})
        self.dind.start()

    def type(self, line: str) -> None:
        self.press(f"{line}\n".encode())

    def press(self, keys: bytes) -> None:
        self.socket._sock.sendall(keys)

    def says(self, text: str) -> bool:
        return until(lambda: text in self.dind.log())


class TestByHand:
    """A privileged shell, dockerd in the background, and then the client: as write-ups have it."""

    @pytest.mark.parametrize("shell", [("bash",), ("sh",), ("bash", "--login"), ("/bin/bash", "-i")])
    def test_a_daemon_from_a_shell(self, containers: Containers, shell: tuple[str, ...]) -> None:
        terminal = Terminal(containers, *shell)
        terminal.type(f"dockerd --host=unix://{SOCKET} >/dev/null 2>&1 &")
        terminal.type("until docker version -f 'server: {{.Server.Os}}' 2>&1; do sleep 0.5; done")
        assert terminal.says("server: linux"), terminal.dind.log()
        terminal.type("exit")
        assert terminal.dind.wait() == 0

    def test_a_client_on_a_terminal_finds_a_daemon_named_docker(self, containers: Containers) -> None:
        terminal = Terminal(containers, "bash", privileged=False, extra_hosts={"docker": "192.0.2.1"})
        terminal.type('echo "$DOCKER_HOST" here')
        assert terminal.says("tcp://docker:2375 here")

    @pytest.mark.parametrize(
        "command", [("bash", "-c", "echo $DOCKER_HOST"), ("env",), ("sh", "-ec", "echo $DOCKER_HOST")]
    )
    def test_any_other_command_is_told_as_ever(
        self, containers: Containers, command: tuple[str, ...]
    ) -> None:
        terminal = Terminal(containers, *command, privileged=False)
        assert terminal.dind.wait() == 0
        assert "tcp://docker:2375" in terminal.dind.log()
        assert "tcp://docker:2375" in containers.answer(*command, privileged=False)[1]


class TestAnotherDaemonsSocket:
    """Mounted where our own would be, and no command."""

    @pytest.fixture
    def mounted(self, engine_socket: str) -> dict[str, Any]:
        return {"volumes": {engine_socket: {"bind": SOCKET}}, "privileged": False}

    def test_on_a_terminal_there_is_a_shell(self, containers: Containers, mounted: dict[str, Any]) -> None:
        terminal = Terminal(containers, **mounted)
        terminal.type("docker ps --format '{{.Names}} is here'; echo $DOCKER_HOST")
        assert terminal.says(f"{terminal.dind.name} is here"), terminal.dind.log()
        assert terminal.says(f"unix://{SOCKET}")

    @pytest.mark.parametrize("privileged", [False, True])
    def test_elsewhere_one_sentence(
        self, containers: Containers, mounted: dict[str, Any], privileged: bool
    ) -> None:
        code, output, seconds = containers.answer(**{**mounted, "privileged": privileged})
        assert code == 1
        assert seconds < 10
        assert len(output.splitlines()) == 1
        assert "the socket of another daemon is mounted" in output

    def test_a_client_command_works(self, containers: Containers, mounted: dict[str, Any]) -> None:
        code, output, _ = containers.answer("version", "-f", "{{.Server.Os}}", **mounted)
        assert (code, output) == (0, "linux\n")

    @pytest.mark.parametrize("command", [("dockerd",), ("--debug",)])
    def test_a_daemon_that_was_asked_for_says_so(
        self, containers: Containers, mounted: dict[str, Any], command: tuple[str, ...]
    ) -> None:
        code, output, _ = containers.answer(*command, **{**mounted, "privileged": True})
        (error,) = (line for line in output.splitlines() if "error" in line)
        assert code == 1
        assert f"something is mounted at {SOCKET}" in error

    def test_a_daemon_at_another_path_starts(self, containers: Containers, mounted: dict[str, Any]) -> None:
        host = "unix:///var/run/mine.sock"
        dind = containers.daemon("dockerd", f"--host={host}", **{**mounted, "privileged": True})
        dind(f"docker -H {host} version")

    def test_a_stale_socket_file_is_no_mount(self, containers: Containers) -> None:
        listen = "perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Local => shift, Listen => 1)' "
        script = f"{listen} {SOCKET}; test -S {SOCKET}; exec dockerd-entrypoint.sh"
        containers.start("-ec", script, entrypoint="sh").ready().docker("version")


class TestASharedVarRun:
    """Client and daemon share /var/run, as some CI systems run their services."""

    @pytest.fixture
    def pair(self, containers: Containers) -> tuple[Dind, Dind]:
        volumes = {str(containers.volume().name): {"bind": "/var/run"}}
        daemon = containers.daemon(volumes=volumes)
        return daemon, containers.client("sleep", "600", volumes=volumes)

    def test_the_client_is_well_and_finds_the_daemon(self, pair: tuple[Dind, Dind]) -> None:
        daemon, client = pair
        assert client.run("dind-health") == (0, "")
        assert client.run("dind-wait", "5") == (0, "")
        assert "linux" in client.run("docker-entrypoint.sh", "docker", "version")[1]
        assert daemon.run("dind-health") == (0, "")

    def test_the_daemon_is_unwell_where_it_hangs_and_only_it(self, pair: tuple[Dind, Dind]) -> None:
        daemon, client = pair
        daemon("kill -STOP $(pidof dockerd)")
        try:
            assert daemon.run("dind-health")[0] == 1
            assert client.run("dind-health") == (0, "")
            code, output = client.run("dind-wait", "1")
            assert (code, "not ready after 1 s" in output) == (1, True)
        finally:
            daemon("kill -CONT $(pidof dockerd)")

    def test_the_client_sees_the_daemons_end(self, pair: tuple[Dind, Dind]) -> None:
        daemon, client = pair
        daemon.container.kill()
        assert client.run("dind-health") == (0, "")
        assert client.run("dind-wait", "1")[0] == 1


class TestStop:
    """`docker stop` gives 10 s, which a first process that cares for no signal lets pass."""

    @pytest.mark.parametrize(
        "command", [("sleep", "600"), ("sh", "-c", "while :; do sleep 1; done"), ("tail", "-f", "/dev/null")]
    )
    @pytest.mark.parametrize("init", [False, True])
    def test_a_command(self, containers: Containers, command: tuple[str, ...], init: bool) -> None:
        """No signal is lost while the entrypoint still prepares; before there is an init, some may be."""
        client = containers.start(*command, privileged=False, init=init)
        assert until(client.has_init)
        code, seconds = client.stop()
        assert (code, seconds < 5) == (143, True)

    @pytest.mark.parametrize("shell", ["bash", "sh"])
    @pytest.mark.parametrize("init", [False, True])
    def test_a_shell_on_a_terminal(self, containers: Containers, shell: str, init: bool) -> None:
        terminal = Terminal(containers, shell, privileged=False, init=init)
        terminal.type("trap 'echo left >/left' EXIT; echo rea''dy")
        assert terminal.says("ready")
        _, seconds = terminal.dind.stop()
        assert seconds < 5

    def test_a_shells_keys_are_its_own(self, containers: Containers) -> None:
        """Ctrl-C ends what runs in it, Ctrl-Z stops it; its exit code is the container's."""
        terminal = Terminal(containers, "bash", privileged=False)
        terminal.type("echo rea''dy; sleep 500; echo af''ter")
        assert terminal.says("ready")
        assert until(lambda: terminal.dind.run("pidof", "sleep")[0] == 0)
        terminal.press(b"\x03")
        assert until(lambda: terminal.dind.run("pidof", "sleep")[0] == 1)
        terminal.type("sleep 501")
        assert until(lambda: terminal.dind.run("pidof", "sleep")[0] == 0)
        terminal.press(b"\x1a")
        assert terminal.says("Stopped")
        terminal.type("kill %1; exit 7")
        terminal.type("exit 7")
        assert terminal.dind.wait() == 7
        assert "job control" not in terminal.dind.log()

    def test_a_terminal_that_is_closed_ends_its_shell(self, containers: Containers) -> None:
        terminal = Terminal(containers, "bash", privileged=False)
        terminal.type("echo rea''dy")
        assert terminal.says("ready")
        terminal.dind.container.kill("SIGHUP")
        assert terminal.dind.wait(10) == 129

    def test_orphans_are_reaped(self, containers: Containers) -> None:
        terminal = Terminal(containers, "bash", privileged=False)
        terminal.type("(sleep 0.2 &) ; echo rea''dy")
        assert terminal.says("ready")
        assert terminal.dind("sleep 1; grep -l 'State:.Z' /proc/[0-9]*/status || echo none") == "none"
