"""The image dind-rootless, used as docker:dind-rootless: with --privileged, and with the least that works."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dindkit.engine import load, unprivileged
from dindkit.engine.unprivileged import Rights
from dindkit.image.build import Built
from dindkit.progress import Progress
from dindkit.project import Project
from dindkit.smoke.topologies.rootless import AS_USER, BY_ROOT
from tests.engine.dind import WEB, Containers, Dind, until
from tests.support.small_image import small_image
from tests.support.suites import build_image

pytestmark = pytest.mark.engine

DATA = "/home/rootless/.local/share/docker"
LEAST = Rights()
#: As `docker run` starts it, on a machine whose users may make tunnels.
PLAIN: dict[str, Any] = {"user": "1000", "entrypoint": ["dockerd-entrypoint.sh"], "environment": {}}


@pytest.fixture(scope="module")
def image(shared_containers: Containers, project: Project, pytestconfig: pytest.Config) -> Built:
    """Build the image, and bring it into the engine."""
    built = build_image(project, "dind-rootless", pytestconfig.getoption("--suite"), Progress(quiet=True))
    load.load(shared_containers.engine, built, Progress(quiet=True))
    return built


def make(containers: Containers, image: Built, rights: Rights = LEAST, **options: Any) -> Dind:
    """Make a container of a user's daemon, without privileges; what `environment` says is added."""
    environment = {**BY_ROOT["environment"], **options.pop("environment", {})}
    made = unprivileged.create(
        *(containers.engine, image.reference, (), rights),
        **{**BY_ROOT, **options, "environment": environment},
    )
    containers.containers.append(made)
    return Dind(made)


def refused(containers: Containers, image: Built, rights: Rights = LEAST, **options: Any) -> str:
    """Return the one message with which a container ends that can have no daemon."""
    code, output, _ = make(containers, image, rights, **options).answer()
    assert code == 1, output
    (message,) = (line for line in output.splitlines() if line.startswith("dind: error:"))
    return message


@pytest.fixture(scope="module")
def docker(shared_containers: Containers, image: Built) -> Dind:
    """Start a daemon with the flags of docs/security.md and no more, and `base` in it."""
    return make(shared_containers, image).start().ready().load(shared_containers.base)


def test_it_is_the_image_of_docker_dind_rootless(shared_containers: Containers, image: Built) -> None:
    config = shared_containers.engine.client.images.get(image.reference).attrs["Config"]
    assert config["User"] == "rootless"
    assert list(config["Volumes"]) == [DATA]
    dind = shared_containers.start("sleep", "infinity", image=image.reference, privileged=False)
    assert dind("id -u; id -un; echo $HOME; stat -c '%U %a' ~ /run/user " + DATA).split() == [
        *("1000", "rootless", "/home/rootless"),
        *("rootless", "755", "root", "1777", "rootless", "710"),
    ]
    assert dind("grep rootless: /etc/subuid /etc/subgid").split() == [
        "/etc/subuid:rootless:100000:65536",
        "/etc/subgid:rootless:100000:65536",
    ]
    assert dind("stat -c %a /usr/bin/newuidmap /usr/bin/newgidmap").split() == ["755", "755"]


def test_the_flags_are_those_of_the_page() -> None:
    page = (Project.here().root / "docs/security.md").read_text()
    assert f"docker run {' '.join(LEAST.flags)} dindkit/dind-rootless" in page


def test_without_privileges_a_nested_container_runs(docker: Dind) -> None:
    info = docker.docker("info", "--format", "{{.SecurityOptions}} {{.DockerRootDir}}")
    assert "name=rootless" in info
    assert info.endswith(f" {DATA}")
    assert docker.nested("cat /proc/self/uid_map").split() == ["0", "1000", "1", "1", "100000", "65536"]
    assert set(docker("ps -o uid= -C dockerd,containerd,rootlesskit,slirp4netns").split()) == {"1000"}


def test_nested_containers_have_a_network(docker: Dind, containers: Containers) -> None:
    """Out to a neighbour of the outer container, and in by a published port."""
    neighbour = containers.start("perl", "-e", WEB, image=containers.base.reference, privileged=False)
    ask = f"exec 3<>/dev/tcp/{neighbour.address}/80 && echo GET / >&3 && tail -n 1 <&3"
    assert until(lambda: docker.run("docker", "run", "--rm", "base", "bash", "-c", ask) == (0, "nested"))
    server = docker.docker("run", "-d", "-p", "8080:80", "base", "perl", "-e", WEB)
    assert until(lambda: docker.run("curl", "-s", "http://127.0.0.1:8080") == (0, "nested"))
    docker.docker("rm", "-f", server)


def test_the_port_is_forwarded_with_tls_and_the_container_is_healthy(docker: Dind) -> None:
    client = "docker --tlsverify --tlscacert /certs/client/ca.pem --tlscert /certs/client/cert.pem "
    client += f"--tlskey /certs/client/key.pem -H tcp://{docker.address}:2376"
    assert docker(f"{client} info -f ok") == "ok"
    assert docker.run("dind-health", "--daemon", user="1000") == (0, "")


def test_with_less_there_is_one_message(containers: Containers, image: Built) -> None:
    """But for AppArmor, which the kernel here may not have."""
    said = refused(containers, image, replace(LEAST, security=LEAST.security[1:]))
    assert "user rootless can make no user namespace here (Operation not permitted)" in said
    assert "--security-opt seccomp=unconfined" in said
    said = refused(containers, image, replace(LEAST, system_paths=False))
    assert "give --security-opt systempaths=unconfined" in said


def test_with_privileges(containers: Containers, image: Built) -> None:
    """With settings, with an image loaded beforehand, and once more after it was killed."""
    settings = {
        "DIND_PRELOAD": "/images",
        "DIND_MTU": "1400",
        "DOCKERD_ROOTLESS_ROOTLESSKIT_MTU": "1450",
        "DOCKERD_ROOTLESS_ROOTLESSKIT_FLAGS": "-p 127.0.0.1:9000:9000/tcp",
    }
    environment = {**BY_ROOT["environment"], **settings}
    made = containers.create(**{**BY_ROOT, "environment": environment, "image": image.reference})
    made.put("/images/base.tar", small_image(containers.base, "base"))
    docker = made.start().ready()
    assert docker.nested("cat /sys/class/net/eth0/mtu") == "1400"
    words = docker("tr '\\0' ' ' <\"/proc/$(pgrep -xo rootlesskit)/cmdline\"")
    assert " --net=slirp4netns --mtu=1450 " in words
    assert " -p 127.0.0.1:9000:9000/tcp " in words
    docker.container.kill()
    docker.wait()
    docker.start().ready()
    assert docker.docker("images", "-q", "base")
    assert docker.stop()[0] == 0
    assert "Daemon shutdown complete" in docker.log()


def test_a_swarm_is_refused_with_the_reason(containers: Containers, image: Built) -> None:
    said = refused(containers, image, environment={"DIND_SWARM": "init"})
    assert "DIND_SWARM=init: a rootless daemon can be in no swarm, since the overlay" in said


def test_a_tunnel_that_is_missing_and_one_that_cannot_be_written(
    containers: Containers, image: Built
) -> None:
    said = refused(containers, image, replace(LEAST, devices=()), **PLAIN)
    assert "there is no /dev/net/tun in this container" in said
    assert "--device /dev/net/tun" in said
    closed = AS_USER.replace("0666", "0600")
    said = refused(containers, image, entrypoint=["sh", "-c", closed, "sh"])
    assert "user rootless cannot write to /dev/net/tun" in said
    assert "chmod 0666 /dev/net/tun" in said


def test_a_network_whose_program_is_missing_is_named_by_its_package(
    containers: Containers, image: Built
) -> None:
    options = {**PLAIN, "environment": {"DOCKERD_ROOTLESS_ROOTLESSKIT_NET": "pasta"}}
    assert "leaves out (passt)" in refused(containers, image, **options)


def test_fuse_where_the_kernel_mounts_no_overlay(containers: Containers, image: Built) -> None:
    """The data root is on the container's own overlay, which no other can lie upon."""
    both = ["sh", "-c", AS_USER.replace("0666", "0666 /dev/fuse"), "sh"]
    rights = replace(LEAST, devices=(*LEAST.devices, "/dev/fuse"))
    elsewhere = {"DIND_DATA_ROOT": "/home/rootless/data"}
    docker = make(containers, image, rights, entrypoint=both, environment=elsewhere).start().ready()
    docker.load(containers.base)
    assert docker.docker("info", "-f", "{{.Driver}}") == "fuse-overlayfs"
    assert docker.nested("echo written >/x && cat /x") == "written"
