"""Where there can be no daemon: one message, at once, and an exit code that is not 0."""

from __future__ import annotations

from typing import Any

import pytest

from tests.engine.dind import ALL_BUT_CGROUP, AT_ONCE, UNCONFINED, Containers, until

pytestmark = pytest.mark.engine


def test_no_privileges(containers: Containers) -> None:
    message = containers.refused(privileged=False)
    for word in ("CAP_SYS_ADMIN", "--privileged", "sysbox", "docker.sock"):
        assert word in message


def test_some_privileges(containers: Containers) -> None:
    message = containers.refused(privileged=False, cap_add=["SYS_ADMIN", "NET_ADMIN"])
    assert "--privileged" in message


def test_a_cgroup_that_is_read_only(containers: Containers) -> None:
    """All capabilities and /proc/sys in view: a daemon starts, and no nested container does."""
    message = containers.refused(*UNCONFINED, **ALL_BUT_CGROUP)
    assert "a writable /sys/fs/cgroup" in message
    assert "--privileged" in message


@pytest.mark.parametrize(
    ("options", "flag"),
    [
        ({"read_only": True}, "give --tmpfs /run --tmpfs /certs as well"),
        ({"read_only": True, "environment": {"DOCKER_TLS_CERTDIR": ""}}, "give --tmpfs /run as well"),
        (
            {"mem_limit": "64m"},
            "64 MB of memory, and a daemon with one small container needs 96: give --memory",
        ),
        (
            {"pids_limit": 15},
            "have 15 processes, and a daemon with one small container needs 64: give --pids",
        ),
    ],
)
def test_too_little_to_live_on(containers: Containers, options: dict[str, Any], flag: str) -> None:
    assert flag in containers.refused(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"read_only": True, "tmpfs": {"/run": "", "/certs": ""}},
        {"mem_limit": "96m", "memswap_limit": "96m"},
        {"pids_limit": 80},
    ],
)
def test_what_the_messages_name_is_enough(
    data_on_disk: dict[str, Any], containers: Containers, options: dict[str, Any]
) -> None:
    dind = containers.daemon(**options, volumes=data_on_disk)
    programs = "usr/bin/true usr/lib64 lib64 usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 lib"
    libraries = "usr/lib/x86_64-linux-gnu/libc.so.6"
    dind(f"tar -c -C / {programs} {libraries} | docker import - one >/dev/null")
    dind.docker("run", "--rm", "one", "/usr/bin/true")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DIND_REGISTRY_MIRRORS", "mirror.example:5000"),
        ("DIND_INSECURE_REGISTRIES", "http://registry.example"),
        ("DIND_MTU", "jumbo"),
        ("DIND_MTU", "67"),
        ("DIND_MTU", "1400 1300"),
        ("DIND_DNS", "10.0.0.1 dns.example"),
        ("DIND_DNS", "10.0.0.256"),
        ("DIND_DEFAULT_ADDRESS_POOLS", "10.0.0.0/8"),
        ("DIND_STORAGE_DRIVER", "overlay3"),
        ("DIND_LOG_LEVEL", "loud"),
        ("DIND_LOG_LEVEL", "debug info"),
        ("DIND_DATA_ROOT", "here"),
        ("DIND_DATA_ROOT", "/var/lib/docker/a\tb"),
        ("DIND_STOP_TIMEOUT", "long"),
        ("DIND_PRELOAD", "/no/such/folder"),
        ("DIND_SWARM", "leave"),
        ("DIND_SWARM", "join"),
        ("DOCKER_TLS_SAN", "DNS:good.example,not a=name"),
        ("DOCKER_TLS_SAN", "IP:host.example"),
    ],
)
def test_a_bad_value(containers: Containers, variable: str, value: str) -> None:
    message = containers.refused(environment={variable: value})
    assert message.startswith("dind: error:")
    assert variable in message


def test_a_bad_value_that_only_dockerd_can_tell(containers: Containers) -> None:
    code, output, seconds = containers.answer(environment={"DIND_INSECURE_REGISTRIES": "10.0.0.0/99"})
    assert code == 1
    assert "10.0.0.0/99" in output
    assert seconds < AT_ONCE


@pytest.mark.parametrize("content", ["{", '{"debug": true,}', "[]", "nonsense"])
def test_a_broken_daemon_json(containers: Containers, content: str) -> None:
    message = containers.refused(files={"/etc/docker/daemon.json": content})
    assert "/etc/docker/daemon.json is not a JSON object" in message


def test_a_daemon_json_with_unknown_keys(containers: Containers) -> None:
    message = containers.refused(files={"/etc/docker/daemon.json": '{"no-such-key": 1}'})
    assert "no-such-key" in message


@pytest.mark.parametrize("path", ["/etc/docker/daemon.json", "/etc/mine.json"])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"no-such-key": 1}', "no-such-key"),
        ('{"debug": false}', "specified both as a flag and in the configuration file: debug"),
        ('{"mtu": "1400"}', "mtu"),
    ],
)
def test_what_is_wrong_is_told_of_the_users_file(
    containers: Containers, path: str, content: str, says: str
) -> None:
    """And not of the one that it was merged into, which nobody wrote."""
    command = ("--debug", "--config-file", path)
    message = containers.refused(*command, files={path: content}, environment={"DIND_LOG_LEVEL": "warn"})
    assert message.startswith(f"dind: error: {path}: ")
    assert says in message


def test_a_reload_tells_of_the_users_file(containers: Containers) -> None:
    dind = containers.daemon(files={"/etc/docker/daemon.json": "{}"}, environment={"DIND_LOG_LEVEL": "info"})
    dind.put("/etc/docker/daemon.json", '{"no-such-key": 1}')
    dind.container.kill("SIGHUP")
    assert until(lambda: "no-such-key" in dind.log())
    (line,) = (line for line in dind.log().splitlines() if "no-such-key" in line)
    assert "/etc/docker/daemon.json: " in line
    assert "/run/dind" not in dind.log()
    assert dind.run("dind-health") == (0, "")


def test_a_config_file_that_is_not_there(containers: Containers) -> None:
    assert "/etc/none.json cannot be read" in containers.refused("--config-file", "/etc/none.json")


def test_a_preload_without_a_socket(containers: Containers) -> None:
    command = ("dockerd", "--host=tcp://127.0.0.1:2375", "--tls=false")
    message = containers.refused(*command, environment={"DIND_PRELOAD": "/etc/hostname"})
    assert "DIND_PRELOAD and DIND_SWARM need a daemon that listens on a socket" in message


def test_what_is_refused_leaves_nothing_running(containers: Containers) -> None:
    """Where the entrypoint is not the container's first process: the next try must work."""
    script = (
        "dockerd-entrypoint.sh dockerd; pidof containerd;"
        " DIND_STORAGE_DRIVER=vfs with-dockerd docker info -f '{{.Driver}}'"
    )
    code, output, _ = containers.answer("sh", "-c", script, environment={"DIND_DATA_ROOT": "/data"})
    assert code == 0, output
    assert "no overlay can be mounted" in output
    assert output.splitlines()[-1] == "vfs"
    assert not [line for line in output.splitlines() if line.isdecimal()]


def test_overlay_on_overlay(containers: Containers) -> None:
    """The container's own root file system is one, which the volume at /var/lib/docker hides."""
    message = containers.refused(environment={"DIND_DATA_ROOT": "/data"})
    assert "no overlay can be mounted on the data root /data, which lies on overlayfs" in message
    assert "docker run -v" in message
    assert "an emptyDir" in message  # for runtimes that make no volumes of VOLUME
    assert "DIND_STORAGE_DRIVER=vfs" in message


def test_overlay_on_overlay_with_vfs_by_choice(containers: Containers) -> None:
    dind = containers.daemon(environment={"DIND_DATA_ROOT": "/data", "DIND_STORAGE_DRIVER": "vfs"})
    assert dind("docker info -f '{{.Driver}}'") == "vfs"


def test_a_full_disk(containers: Containers) -> None:
    message = containers.refused(
        entrypoint=[
            "sh",
            "-c",
            "cat /dev/zero >/var/lib/docker/fill 2>/dev/null; exec dockerd-entrypoint.sh",
        ],
        tmpfs={"/var/lib/docker": "size=4m"},
    )
    assert "the data root /var/lib/docker takes no data" in message
    assert "No space left on device" in message


def test_a_read_only_data_root(containers: Containers) -> None:
    message = containers.refused(
        volumes={containers.volume().name: {"bind": "/var/lib/docker", "mode": "ro"}}
    )
    assert "the data root /var/lib/docker takes no data" in message


def test_certificates_that_cannot_be_written(containers: Containers) -> None:
    message = containers.refused(volumes={containers.volume().name: {"bind": "/certs/server", "mode": "ro"}})
    assert "certificates cannot be written to /certs/server" in message


def test_two_reasons_are_one_message(containers: Containers) -> None:
    """Certificates are made in the background, and fail before iptables does."""
    broken = "#!/bin/sh\nsleep 1\nexit 1\n"
    message = containers.refused(
        files={f"/usr/local/sbin/iptables-{name}": broken for name in ("nft", "legacy")},
        volumes={containers.volume().name: {"bind": "/certs/server", "mode": "ro"}},
    )
    assert "no usable iptables" in message


def test_rootless_without_its_packages(containers: Containers) -> None:
    message = containers.refused(user="1000")
    assert "rootlesskit uidmap slirp4netns" in message


def test_no_loop_where_restarts_are_asked_for(containers: Containers) -> None:
    """The reason is in the log once for each of the engine's tries, and each of them is short."""
    dind = containers.start(privileged=False, restart_policy={"Name": "on-failure", "MaximumRetryCount": 2})
    assert dind.wait() == 1
