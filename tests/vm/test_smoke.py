"""The image runs in a machine of its own, up to three levels deep. Emulated, that takes minutes."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dindkit.engine import virtual
from dindkit.image.build import BuildOptions, build
from dindkit.progress import Progress
from dindkit.project import Project
from dindkit.vm import kernel
from tests.support.host import Host, new_host

pytestmark = [pytest.mark.full, pytest.mark.archive]


@pytest.fixture
def host(project: Project, tmp_path: Path) -> Iterator[Host]:
    with new_host(project, tmp_path / "state") as found:
        yield found
        found.popen(*found.invoke("engine.stop", "--purge"))


def prepare(project: Project, folder: Path, architecture: str = "") -> None:
    """Build and download what a host without a network needs."""
    for image in ("base", "dind"):
        build(project, BuildOptions(image, architecture=architecture), Progress())
    kernel.fetch(project, BuildOptions(architecture=architecture), folder / "packages", Progress())


def left(host: Host) -> list[str]:
    """Return what a machine could leave: processes, and files that are neither shared nor locks."""
    state = host.project.state
    files = [path.name for path in state.iterdir() if not path.is_symlink()]
    return [*host.processes(), *(name for name in files if name not in ("engine", "machine.lock"))]


@pytest.mark.parametrize("architecture", ["arm64", ""], ids=["arm64", "vm"])
def test_three_levels_in_a_machine(host: Host, project: Project, tmp_path: Path, architecture: str) -> None:
    prepare(project, tmp_path, architecture)
    option = ["--arch", architecture] if architecture else ["--vm"]
    code, out, err = host.popen(*host.invoke("smoke", *option))
    assert code == 0, err
    assert re.fullmatch(r"nested: passed on tcp://127\.0\.0\.1:\d+ \(a virtual machine, .*\)\n", out)
    said = re.findall(r"hello from level (\d) on host (\S+) at", err)
    assert [level for level, _ in said] == ["0", "1", "2"]
    assert said[0][1] == "dindkit-vm"
    assert left(host) == []


def test_a_smoke_that_is_killed_leaves_nothing(host: Host, project: Project, tmp_path: Path) -> None:
    prepare(project, tmp_path)
    words = [*host.enter, *host.invoke("smoke", "--vm")]
    with subprocess.Popen(words, env=host.environment(), stderr=subprocess.DEVNULL) as smoke:
        deadline = time.monotonic() + 600
        while not any("qemu-system" in line for line in host.processes()):
            assert smoke.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        smoke.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while host.processes() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert host.processes() == []
    host.run(*host.invoke("clean"))
    assert [path for path in host.project.state.iterdir() if path.name.startswith("vm-")] == []


def test_an_engine_that_lasts_keeps_its_data(host: Host, project: Project, tmp_path: Path) -> None:
    prepare(project, tmp_path)
    told = host.run(*host.invoke("engine.start", "--vm")).strip()
    found = dict(re.findall(r"(\w+)=(\S+)", told))
    assert sorted(found) == ["DOCKER_CERT_PATH", "DOCKER_HOST", "DOCKER_TLS_VERIFY"]
    assert found["DOCKER_CERT_PATH"] == str(virtual.certificates(host.project))
    assert host.run(*host.invoke("engine.status")).strip() == told
    docker_run = "import sys; from dindkit.engine import discover; from dindkit.project import Project;"
    docker_run += " engine = discover.find(Project.here()); print(engine.found_by);"
    make = docker_run + " engine.client.volumes.create('kept')"
    assert host.run(sys.executable, "-c", make) == "the virtual machine's engine\n"
    host.run(*host.invoke("engine.stop"))
    assert host.processes() == []
    assert [path.name for path in virtual.folder(host.project).iterdir()] == ["data"]
    host.run(*host.invoke("engine.start", "--vm"))
    ask = docker_run + " print(engine.client.volumes.get('kept').name)"
    assert host.run(sys.executable, "-c", ask).splitlines()[-1] == "kept"
    host.run(*host.invoke("engine.stop", "--purge"))
    assert not virtual.folder(host.project).exists()
    assert host.processes() == []
