"""Other outer engines than Docker for root: what works on each, nested in the test's own engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

import tasks  # noqa: F401 - the commands are what makes engines known to builds
from dindkit.engine import load
from dindkit.engine.discover import Engine
from dindkit.image.build import Built, build
from dindkit.image.build_options import BuildOptions
from dindkit.progress import Progress
from dindkit.project import Project
from tests.engine.dind import Containers, Dind, temporary_containers, until
from tests.engine.outer import Outer, outer, podman, podman_image, rootless_docker
from tests.examples.conftest import EXAMPLES
from tests.support.local_project import LocalProject
from tests.support.suites import build_image

pytestmark = [pytest.mark.full, pytest.mark.engine, pytest.mark.archive]


@pytest.fixture(scope="module")
def image(project: Project, engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Built:
    return podman_image(project, tmp_path_factory.mktemp("podman"))


@pytest.fixture(scope="module")
def rootful(
    shared_containers: Containers, image: Built, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Outer]:
    with podman(shared_containers, image, tmp_path_factory.mktemp("rootful")) as made:
        yield made


@pytest.fixture(scope="module")
def rootless(
    shared_containers: Containers, image: Built, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Outer]:
    with podman(shared_containers, image, tmp_path_factory.mktemp("user"), rootless=True) as made:
        yield made


def facts(made: Outer) -> dict[str, str]:
    """Return what `doctor --json` says of the engine."""
    done = made.invoke("doctor", "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)["result"]["facts"]
    return found


def passes(made: Outer) -> None:
    """Say hello three levels deep, and leave nothing behind."""
    done = made.invoke("smoke")
    assert done.returncode == 0, done.stderr
    assert "nested: passed on unix://" in done.stdout
    assert made.engine.client.containers.list(all=True) == []


def test_podman(rootful: Outer) -> None:
    told = facts(rootful)
    assert told["engine"].startswith("Podman 5.")
    assert told["privileged"].startswith("yes")
    passes(rootful)


def test_rootless_podman(rootless: Outer) -> None:
    passes(rootless)


def test_rootless_podman_on_cgroup_2(
    engine2: Engine, dind: Built, base: Built, image: Built, tmp_path: Path
) -> None:
    with (
        temporary_containers(engine2, dind.reference, base) as containers,
        podman(containers, image, tmp_path / "user", rootless=True) as made,
    ):
        assert facts(made)["cgroups"] == "version 2, cgroupfs"
        passes(made)


def test_podman_on_cgroup_2(engine2: Engine, dind: Built, base: Built, image: Built, tmp_path: Path) -> None:
    with (
        temporary_containers(engine2, dind.reference, base) as containers,
        podman(containers, image, tmp_path / "root") as made,
    ):
        assert facts(made)["cgroups"] == "version 2, cgroupfs"
        passes(made)


@pytest.fixture(scope="module")
def docker_of_user(project: Project, suite: str) -> Built:
    return build_image(project, "dind-rootless", suite, Progress(quiet=True))


def test_rootless_docker(shared_containers: Containers, docker_of_user: Built, tmp_path: Path) -> None:
    with rootless_docker(shared_containers, docker_of_user, tmp_path / "user") as made:
        passes(made)


def test_rootless_docker_on_cgroup_2(
    engine2: Engine, dind: Built, base: Built, docker_of_user: Built, tmp_path: Path
) -> None:
    with (
        temporary_containers(engine2, dind.reference, base) as containers,
        rootless_docker(containers, docker_of_user, tmp_path / "user") as made,
    ):
        assert facts(made)["cgroups"].startswith("version 2")
        passes(made)


def test_containerds_store(shared_containers: Containers, tmp_path: Path) -> None:
    settings = {"features": {"containerd-snapshotter": True}}
    host = f"--host=unix://{tmp_path}/outer/engine.sock"
    with outer(
        shared_containers,
        tmp_path / "outer",
        host,
        "--host=unix:///var/run/docker.sock",
        files={"/etc/docker/daemon.json": json.dumps(settings)},
        volumes=["/var/lib/docker"],
        environment={"DOCKER_TLS_CERTDIR": ""},
    ) as made:
        driver = made.engine.client.info()["DriverStatus"]
        assert ["driver-type", "io.containerd.snapshotter.v1"] in driver
        passes(made)


@pytest.mark.parametrize("by", ["rootful", "rootless"])
def test_podman_as_builder(
    request: pytest.FixtureRequest, small_project: LocalProject, tmp_path: Path, by: str
) -> None:
    made: Outer = request.getfixturevalue(by)
    elsewhere = replace(small_project.project, state=tmp_path / "state")
    options = BuildOptions("app", builder=made.engine.host)
    assert build(elsewhere, options, Progress(quiet=True)).image_id == small_project.build().image_id


class TestKubePlay:
    """`podman kube play` runs the example of Kubernetes: the nearest thing to a cluster that Debian has.

    Podman 5.4 makes no sidecar that has a probe. So the daemon's container stands among the others here, and
    the runner, which is started again, finds the daemon when it is ready. The order is left to clusters. And
    volumes in memory become ordinary ones: Podman gives each container of a pod a tmpfs of its own.
    """

    def play(self, dind: Dind, text: str) -> tuple[int, str]:
        dind.put("/run/pod.yaml", text)
        return dind.run("podman", "kube", "play", "/run/pod.yaml")

    def test_the_deployment(self, rootful: Outer, dind: Built) -> None:
        load.load(rootful.engine, dind, Progress(quiet=True))
        deployment: dict[str, Any] = yaml.safe_load((EXAMPLES / "kubernetes/deployment.yaml").read_text())
        for volume in deployment["spec"]["template"]["spec"]["volumes"]:
            volume["emptyDir"].pop("medium", None)
        podman = rootful.container
        code, said = self.play(podman, yaml.safe_dump(deployment))
        if code:
            assert "cannot create an init container that has either of" in said
            podman("podman kube down /run/pod.yaml || :")
            pod = deployment["spec"]["template"]["spec"]
            (daemon,) = pod.pop("initContainers")
            daemon.pop("restartPolicy")
            pod["containers"].insert(0, daemon)
            code, said = self.play(podman, yaml.safe_dump(deployment))
        assert code == 0, said
        try:

            def runs() -> bool:
                code, said = podman.run("podman", "logs", "runner-pod-runner")
                return code == 0 and "Server:" in said

            logs = "for one in docker runner; do podman logs runner-pod-$one 2>&1 | tail -20; done"
            assert until(runs, 240), podman(f"podman ps --all; {logs}")
        finally:
            podman("podman kube down /run/pod.yaml")
