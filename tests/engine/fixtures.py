"""What the tests of the entrypoint stand on."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import pytest

from dindkit.engine import load, sockets
from dindkit.engine.discover import Engine, connect
from dindkit.image.build import Built
from dindkit.progress import Progress
from dindkit.project import Project
from tests.engine.dind import Containers, Dind, temporary_containers
from tests.support.engine_seed import plant
from tests.support.host import share_images, share_trees
from tests.support.memory_folder import on_disk

#: Boots the image as an engine in a network namespace of its own, so that it cannot meet another engine's
#: bridge there, and stops it when its input ends.
HOLDER = """
import sys
from dindkit.embedded import lifecycle
from dindkit.progress import Progress
from dindkit.project import Project
from tests.support.suites import build_image
project, progress = Project.here(), Progress()
lifecycle.start(project, build_image(project, "dind", sys.argv[1], progress), progress, cgroup2=True)
print("up", flush=True)
sys.stdin.read()
lifecycle.stop(project, progress, purge=True)
"""


@pytest.fixture
def containers(engine: Engine, dind: Built, base: Built) -> Iterator[Containers]:
    """Yield what makes containers of the image for one test."""
    with temporary_containers(engine, dind.reference, base) as made:
        yield made


@pytest.fixture(scope="module")
def shared_containers(engine: Engine, dind: Built, base: Built) -> Iterator[Containers]:
    """Yield what makes containers of the image for all tests of a module."""
    with temporary_containers(engine, dind.reference, base) as made:
        yield made


@pytest.fixture(scope="module")
def daemon(shared_containers: Containers) -> Dind:
    """Start a daemon as it comes, with the image `base` in it, for tests that leave it as it is."""
    return shared_containers.daemon().load(shared_containers.base)


@pytest.fixture
def data_on_disk() -> Iterator[dict[str, dict[str, str]]]:
    """Give a volume for the data root of a daemon whose memory is limited; see memory_folder."""
    with tempfile.TemporaryDirectory(prefix="dindkit-data-", dir=on_disk()) as folder:
        yield {folder: {"bind": "/var/lib/docker"}}


@pytest.fixture(scope="session")
def engine_socket(engine: Engine) -> str:
    """Give the path of the engine's socket, as its containers can mount it."""
    if not engine.host.startswith("unix://"):
        pytest.skip("the engine has no socket on this machine")
    return engine.host.removeprefix("unix://")


@pytest.fixture(scope="module")
def engine2(
    dind: Built, base: Built, progress: Progress, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    """Boot the image as an engine on cgroup v2, whatever this host's programs use."""
    state = tmp_path_factory.mktemp("engine2")
    project = Project(Project.here().root, state, Project.here().cache)
    share_images(Project.here(), state)
    share_trees(Project.here(), state)
    plant(project, dind.inputs.lock.suite)
    command = [
        "unshare",
        "--net",
        "sh",
        "-c",
        'ip link set lo up && exec "$@"',
        "sh",
        sys.executable,
        "-c",
        HOLDER,
        dind.inputs.lock.suite,
    ]
    environment = {**os.environ, "DINDKIT_STATE": str(state), "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as holder:
        try:
            assert holder.stdout is not None
            if holder.stdout.readline() != "up\n":
                pytest.fail(holder.communicate()[1])
            engine = connect(f"unix://{sockets.embedded(project)}", "the engine on cgroup v2")
            load.load(engine, dind, progress)
            yield engine
        finally:
            holder.communicate()
