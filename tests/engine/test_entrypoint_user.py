"""Containers whose user is not root, and sudo in them."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from tests.engine.dind import Containers, Dind
from tests.support.suites import apt_settings

pytestmark = pytest.mark.engine

INSTALL = """
    apt-get update -q >/dev/null
    apt-get install -qy --no-install-recommends sudo >/dev/null 2>&1
    useradd --create-home --groups docker dev
    echo 'dev ALL=(root) NOPASSWD:ALL' >/etc/sudoers.d/dev
    useradd --create-home --groups docker limited
    echo 'limited ALL=(root) NOPASSWD: /usr/local/bin/dockerd-entrypoint.sh' >/etc/sudoers.d/limited
"""


@pytest.fixture(scope="module")
def image(shared_containers: Containers) -> Iterator[str]:
    """Make an image from ours that ends with USER dev."""
    tag = f"dindkit/test-user:{secrets.token_hex(4)}"
    dind = shared_containers.start("sh", "-ec", INSTALL, privileged=False, files=apt_settings())
    assert dind.wait(300) == 0, dind.log()
    repository, _, name = tag.partition(":")
    dind.container.commit(repository, name, changes=["CMD []", "USER dev"])
    yield tag
    shared_containers.engine.client.images.remove(tag, force=True)


@pytest.mark.parametrize("options", [{}, {"tty": True}, {"init": True}, {"user": "limited"}])
def test_the_daemon_is_roots_by_sudo_and_stops_in_order(
    containers: Containers, image: str, options: dict[str, Any]
) -> None:
    dind = containers.daemon(image=image, **options)
    assert dind("stat -c %U /proc/$(cat /var/run/docker.pid)") == "root"
    assert any("tcp://0.0.0.0:2376, TLS" in line for line in dind.said())
    code, seconds = dind.stop()
    assert (code, seconds < 8) == (0, True)
    assert "Daemon shutdown complete" in dind.log()


def environment(dind: Dind) -> list[str]:
    code, output = dind.run("sh", "-c", "tr '\\0' '\\n' </proc/$(pidof dockerd)/environ", user="root")
    assert code == 0
    return output.split("\n")


def test_sudo_drops_nothing_of_what_the_container_was_told(containers: Containers, image: str) -> None:
    told = {
        "DOCKER_TLS_CERTDIR": "",
        "DIND_MTU": "1300",
        "HTTPS_PROXY": "http://user:it's\"$HOME@proxy.example:1",
        "no_proxy": "a b",
    }
    dind = containers.daemon(image=image, environment=told)
    assert {f"{name}={value}" for name, value in told.items()} <= set(environment(dind))
    assert any("tcp://0.0.0.0:2375 without TLS" in line for line in dind.said())


@pytest.mark.parametrize(
    ("prepare", "says"),
    [
        ("", "tcp://0.0.0.0:2376, TLS"),
        ("unset DOCKER_TLS_CERTDIR;", "tcp://0.0.0.0:2376, TLS"),
        ("export DOCKER_TLS_CERTDIR=;", "tcp://0.0.0.0:2375 without TLS"),
    ],
)
def test_by_hand_the_default_is_tls(containers: Containers, image: str, prepare: str, says: str) -> None:
    # By its path: sudo of forky looks for nothing in /usr/local.
    by_hand = f"{prepare} sudo /usr/local/bin/dockerd-entrypoint.sh"
    dind = containers.start("sh", "-c", by_hand, image=image).ready()
    assert any(says in line for line in dind.said())


def test_with_dockerd(containers: Containers, image: str) -> None:
    code, output, _ = containers.answer(
        "with-dockerd", "sh", "-c", "id -un; docker info -f '{{.OSType}}'; exit 5", image=image
    )
    assert (code, output.split()) == (5, ["dev", "linux"])


@pytest.mark.parametrize("options", [{"user": "1234"}, {"security_opt": ["no-new-privileges"]}])
def test_without_sudo_one_sentence(containers: Containers, image: str, options: dict[str, Any]) -> None:
    code, output, seconds = containers.answer(image=image, **options)
    assert code == 1
    assert seconds < 10
    assert len(output.splitlines()) == 1
    assert "remoteUser" in output
