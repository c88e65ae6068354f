"""The daemon of a user who is not root, in an image that has the packages which ours leaves out."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from tests.engine.dind import Containers, Dind
from tests.support.suites import apt_settings

pytestmark = pytest.mark.engine

INSTALL = """
    apt-get update -q >/dev/null
    apt-get install -qy --no-install-recommends rootlesskit slirp4netns uidmap >/dev/null 2>&1
    useradd --uid 1000 --create-home rootless
    echo rootless:100000:65536 | tee -a /etc/subuid >>/etc/subgid
    install -d -o rootless /run/user/1000
    share=/home/rootless/.local/share
    install -d -o rootless "${share%/*}" $share $share/docker
"""
#: As a host has it that lets users make tunnels; the container gets its modes from there.
TUN = 'chmod 666 /dev/net/tun && exec setpriv --reuid=1000 --regid=1000 --clear-groups "$0" "$@"'


@pytest.fixture(scope="module")
def rootless(shared_containers: Containers) -> Iterator[str]:
    """Make an image from ours, as the entrypoint's message says."""
    tag = f"dindkit/test-rootless:{secrets.token_hex(4)}"
    dind = shared_containers.start("sh", "-ec", INSTALL, privileged=False, files=apt_settings())
    assert dind.wait(300) == 0, dind.log()
    repository, _, name = tag.partition(":")
    dind.container.commit(repository, name, changes=["CMD []", "VOLUME /home/rootless/.local/share/docker"])
    yield tag
    shared_containers.engine.client.images.remove(tag, force=True)


@pytest.fixture(scope="module")
def docker(shared_containers: Containers, rootless: str) -> Dind:
    return shared_containers.daemon(
        "sh",
        "-c",
        TUN,
        "dockerd-entrypoint.sh",
        image=rootless,
        environment={"HOME": "/home/rootless", "XDG_RUNTIME_DIR": "/run/user/1000", "DIND_MTU": "1400"},
    )


def test_it_is_rootless(docker: Dind) -> None:
    code, info = docker.run(
        "docker-entrypoint.sh", "info", "-f", "{{.SecurityOptions}} {{.DockerRootDir}}", user="1000"
    )
    assert code == 0
    assert "rootless" in info
    assert info.endswith(" /home/rootless/.local/share/docker")


def test_the_port_is_forwarded_with_tls(docker: Dind) -> None:
    client = "docker --tlsverify --tlscacert /certs/client/ca.pem --tlscert /certs/client/cert.pem "
    client += f"--tlskey /certs/client/key.pem -H tcp://{docker.address}:2376"
    assert docker(f"{client} info -f ok") == "ok"
    assert docker.run("dind-health", user="1000") == (0, "")


def test_it_stops_in_order(docker: Dind) -> None:
    assert docker.stop()[0] == 0
    assert "Daemon shutdown complete" in docker.log()


def test_a_user_without_subordinate_ids(containers: Containers, rootless: str) -> None:
    code, output, _ = containers.answer(image=rootless, user="1234")
    assert code == 1
    assert "add '1234:100000:65536'" in output
