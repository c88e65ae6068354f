"""The contract's first part: what the image holds, and how it can be used without its daemon."""

from __future__ import annotations

import pytest

from dindkit.engine.discover import Engine
from dindkit.image.build import Built
from tests.engine.dind import Bench, Dind

pytestmark = pytest.mark.engine

PROGRAMS = """
    dockerd-entrypoint.sh docker-entrypoint.sh docker dockerd containerd runc docker-init docker-proxy
    docker-compose git openssl xz pigz iptables ip6tables ip curl wget modprobe ssh bash sh jq mount
    mkfs.ext4 mkfs.xfs mkfs.btrfs dind-health dind-wait with-dockerd
"""


def test_configuration(engine: Engine, dind: Built) -> None:
    config = engine.client.images.get(dind.reference).attrs["Config"]
    assert config["Entrypoint"] == ["dockerd-entrypoint.sh"]
    assert not config["Cmd"]
    assert set(config["Volumes"]) == {"/var/lib/docker"}
    assert set(config["ExposedPorts"]) == {"2375/tcp", "2376/tcp"}
    assert "DOCKER_TLS_CERTDIR=/certs" in config["Env"]
    assert not config.get("StopSignal")
    assert config["Healthcheck"]["Test"] == ["CMD", "dind-health"]


@pytest.mark.parametrize("program", PROGRAMS.split())
def test_program_is_on_path(daemon: Dind, program: str) -> None:
    daemon(f"command -v {program}")


def test_plugins_and_stand_alone_compose(daemon: Dind) -> None:
    assert "Docker Compose" in daemon("docker compose version")
    assert "Docker Compose" in daemon("docker-compose version")
    assert "buildx" in daemon("docker buildx version")


def test_folders_and_accounts(daemon: Dind) -> None:
    assert daemon("stat -c %a /certs /certs/client").split() == ["1777", "1777"]
    assert daemon("getent group docker").startswith("docker:x:2375:")
    assert daemon("stat -c %g /var/run/docker.sock") == "2375"
    assert "dockremap:165536:65536" in daemon("cat /etc/subuid").split()
    assert "dockremap:165536:65536" in daemon("cat /etc/subgid").split()


def test_first_process_reaps_orphans(daemon: Dind) -> None:
    assert "init" in daemon("cat /proc/1/cmdline")
    daemon("(sleep 0.1 &)")
    assert daemon("sleep 0.5; grep -l 'State:.Z' /proc/[0-9]*/status || echo none") == "none"


def test_under_an_init_of_the_engines(make: Bench) -> None:
    """`docker run --init`: there is a first process already."""
    dind = make.daemon(init=True)
    assert dind("pidof docker-init") == "1"
    assert dind.stop()[0] == 0


def test_modprobe_never_fails_its_caller(daemon: Dind) -> None:
    assert daemon.run("modprobe", "-va", "no_such_module", "bridge") == (0, "")


def test_tmp_is_what_it_was(make: Bench) -> None:
    dind = make.daemon(files={"/tmp/mine": "kept"})
    assert dind("cat /tmp/mine") == "kept"


@pytest.mark.parametrize(
    ("command", "output"),
    [
        (["echo", "hi"], "hi\n"),
        (["sh", "-c", "echo $0"], "sh\n"),
        (["bash", "-c", "exit 0"], ""),
    ],
)
def test_any_other_command_runs_as_it_is(make: Bench, command: list[str], output: str) -> None:
    assert make.answer(*command, privileged=False)[:2] == (0, output)


def test_exit_code_is_the_commands(make: Bench) -> None:
    assert make.answer("sh", "-c", "exit 9", privileged=False)[0] == 9


def test_a_word_that_docker_knows_becomes_docker_word(make: Bench) -> None:
    code, output, _ = make.answer("version", "--format", "{{.Client.Os}}", privileged=False)
    assert "linux" in output
    assert code != 0  # there is no daemon
    assert "docker" in output


def test_client_entrypoint_takes_options_as_dockers(make: Bench) -> None:
    code, output, _ = make.answer("--version", entrypoint="docker-entrypoint.sh", privileged=False)
    assert (code, output.split()[0]) == (0, "Docker")


def test_daemon_answers_questions_without_privileges(make: Bench) -> None:
    assert make.answer("--version", privileged=False)[0] == 0
    assert make.answer("dockerd", "--version", privileged=False)[0] == 0


def test_dockerd_starts_without_the_entrypoint(make: Bench) -> None:
    dind = make.start("--host", "tcp://0.0.0.0:2375", "--tls=false", entrypoint="dockerd")
    dind("timeout 40 sh -c 'until docker -H tcp://127.0.0.1:2375 version; do sleep 0.2; done' 2>&1")
    assert dind.run("dind-health") == (0, "")


@pytest.mark.parametrize(
    ("environment", "files", "expected"),
    [
        ({}, (), "tcp://docker:2375 - -"),
        ({"DOCKER_TLS_VERIFY": "1"}, (), "tcp://docker:2376 1 -"),
        ({}, ("client",), "tcp://docker:2376 1 /certs/client"),
        ({"DOCKER_HOST": "tcp://other:99"}, ("client",), "tcp://other:99 1 /certs/client"),
        ({"DOCKER_HOST": "tcp://other:99", "DOCKER_TLS_VERIFY": ""}, ("client",), "tcp://other:99 - -"),
        ({"DOCKER_HOST": "tcp://other:99", "DOCKER_CERT_PATH": "/x"}, ("client",), "tcp://other:99 - /x"),
        ({"DOCKER_HOST": "unix:///x"}, ("client",), "unix:///x - -"),
        ({"DOCKER_TLS_CERTDIR": ""}, ("client",), "tcp://docker:2375 - -"),
        ({"XDG_RUNTIME_DIR": "/tmp/xdg"}, ("client", "user"), "unix:///tmp/xdg/docker.sock - -"),
        ({}, ("client", "user", "root"), "unix:///var/run/docker.sock - -"),
    ],
)
def test_client_finds_its_daemon(
    make: Bench, environment: dict[str, str], files: tuple[str, ...], expected: str
) -> None:
    listen = "perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Local => shift, Listen => 1) or die'"
    prepare = {
        "client": "cd /certs/client && echo x | tee ca.pem cert.pem key.pem >/dev/null",
        "user": f"mkdir -p /tmp/xdg && {listen} /tmp/xdg/docker.sock",
        "root": f"{listen} /var/run/docker.sock",
    }
    show = 'echo "$DOCKER_HOST ${DOCKER_TLS_VERIFY:--} ${DOCKER_CERT_PATH:--}"'
    script = "\n".join([*(prepare[name] for name in files), f"exec docker-entrypoint.sh sh -c '{show}'"])
    code, output, _ = make.answer("-ec", script, entrypoint="sh", environment=environment, privileged=False)
    assert (code, output.strip()) == (0, expected)
