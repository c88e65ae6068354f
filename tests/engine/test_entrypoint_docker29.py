"""What the entrypoint does for Docker 29, which cannot be had here, for other containerds: stand-ins answer.

That for dockerd says its version, and then the configuration that it was given, and ends.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.engine.dind import Containers, until

DOCKERD = """#!/bin/sh
case "$*" in
    *--version*) echo "Docker version VERSION, build 0000000" ;;
    *--validate*) ;;
    *) for word; do case "$word" in --config-file=*) jq -c . "${word#*=}" ;; esac; done ;;
esac
"""
BROKEN = "#!/bin/sh\necho 'it is broken' >&2\nexit 1\n"


def start(
    containers: Containers, version: str, files: dict[str, str], **environment: str
) -> tuple[str, dict[str, Any]]:
    """Return what the entrypoint said, and the configuration that dockerd got."""
    files = {"/usr/local/sbin/dockerd": DOCKERD.replace("VERSION", version), **files}
    _, said, _ = containers.answer(environment={"DOCKER_TLS_CERTDIR": "", **environment}, files=files)
    found = [line for line in said.splitlines() if line.startswith("{")]
    return said, json.loads(found[-1]) if found else {}


@pytest.mark.parametrize(
    ("version", "also"),
    [
        ("26.1.5+dfsg1", []),
        ("28.5.2+dfsg4", []),
        ("29.10.0", ["127.0.0.0/8", "::1/128"]),
        ("dev", ["127.0.0.0/8", "::1/128"]),
        ("", ["127.0.0.0/8", "::1/128"]),
    ],
)
def test_registries_on_loopback_stay_insecure(containers: Containers, version: str, also: list[str]) -> None:
    said, got = start(containers, version, {}, DIND_INSECURE_REGISTRIES="registry.example:5000")
    assert sorted(got["insecure-registries"]) == [*also, "registry.example:5000"], said
    assert "Illegal number" not in said


def test_those_of_daemon_json_are_the_users(containers: Containers) -> None:
    file = {"/etc/docker/daemon.json": '{"insecure-registries": ["registry.example:5000"]}'}
    said, got = start(containers, "29.10.0", file, DIND_LOG_LEVEL="warn")
    assert got["insecure-registries"] == ["registry.example:5000"], said


@pytest.mark.parametrize("backend", ["", "iptables"])
def test_nftables_where_no_iptables_works(containers: Containers, backend: str) -> None:
    broken = {f"/usr/local/sbin/iptables-{name}": BROKEN for name in ("nft", "legacy")}
    files = {**broken, "/usr/local/sbin/nft": "#!/bin/sh\n"}
    if backend:
        files["/etc/docker/daemon.json"] = json.dumps({"firewall-backend": backend})
    said, got = start(containers, "29.10.0", files)
    if backend:
        assert "dind: error: no usable iptables" in said
    else:
        assert got["firewall-backend"] == "nftables", said
        assert "firewall: nftables, since no iptables works here: iptables-nft says: it is broken;" in said


@pytest.mark.parametrize(("version", "nft"), [("28.5.2", "#!/bin/sh\n"), ("29.10.0", BROKEN)])
def test_no_firewall_at_all(containers: Containers, version: str, nft: str) -> None:
    broken = {f"/usr/local/sbin/iptables-{name}": BROKEN for name in ("nft", "legacy")}
    said, _ = start(containers, version, {**broken, "/usr/local/sbin/nft": nft})
    assert "dind: error: no usable iptables" in said


def test_nftables_of_the_users_choice_needs_no_iptables(containers: Containers) -> None:
    files = {f"/usr/local/sbin/iptables-{name}": BROKEN for name in ("nft", "legacy")}
    files["/etc/docker/daemon.json"] = '{"firewall-backend": "nftables"}'
    said, _ = start(containers, "29.10.0", files)
    assert "firewall: nftables, as the settings say." in said
    assert "error" not in said


#: Says a version, and never serves.
CONTAINERD = """#!/bin/sh
[ "$1" = --version ] || exec sleep 60
echo "containerd example.org/containerd VERSION 0000000"
"""


@pytest.mark.parametrize(("version", "form"), [("v1.7.24", 2), ("1.7.24~ds1", 2), ("v2.1.9", 3), ("dev", 3)])
def test_a_containerd_of_the_users_own_says_which_one_it_is(
    containers: Containers, version: str, form: int
) -> None:
    """And not the package database, which knows only of Debian's: newer ones warn of the older form."""
    containerd = {"/usr/local/sbin/containerd": CONTAINERD.replace("VERSION", version)}
    dind = containers.start(files=containerd)
    assert until(lambda: dind.run("pgrep", "-f", "sleep 60")[0] == 0)
    assert dind("head -n 1 /run/dind/containerd.toml") == f"version = {form}"
