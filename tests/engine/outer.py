"""Outer engines beside Docker for root: in containers of the test's engine, at sockets of this host."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dindkit.engine import load
from dindkit.engine.discover import Engine, connect
from dindkit.errors import EngineError
from dindkit.image import locking
from dindkit.image.build import Built, build
from dindkit.image.build_options import BuildOptions
from dindkit.progress import Progress
from dindkit.project import Project
from tests.engine.dind import Containers, Dind, until

#: The user and group of rootless engines, and of who asks them.
USER = 1000

#: Podman's service, for root. Where the kernel counts no processes in cgroups of version 2, because version 1
#: has that controller, its default limit would fail each container.
ROOTFUL = """
    if [ -e /sys/fs/cgroup/cgroup.controllers ] && ! grep -q pids /sys/fs/cgroup/cgroup.controllers; then
        printf '[containers]\\npids_limit = 0\\n' >/etc/containers/containers.conf
    fi
    exec podman system service --time=0 "unix://$0"
"""

#: As root, for an engine of the user 1000. On version 2 they get a cgroup of their own, as a login
#: has with systemd; on version 1 a user gets none.
FOR_USER = """
    mount --make-rshared /
    chmod 0666 /dev/net/tun
    install -d -o 1000 -g 1000 /run/user/1000
    if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
        mkdir -p /sys/fs/cgroup/init /sys/fs/cgroup/user/init
        for process in $(cat /sys/fs/cgroup/cgroup.procs); do
            echo "$process" >/sys/fs/cgroup/init/cgroup.procs || :
        done
        for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
            echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control
        done
        chown -R 1000:1000 /sys/fs/cgroup/user
        echo $$ >/sys/fs/cgroup/user/init/cgroup.procs
    fi
    as_user="setpriv --reuid=1000 --regid=1000 --clear-groups env XDG_RUNTIME_DIR=/run/user/1000"
"""
PODMAN_OF_USER = f"""
    {FOR_USER}
    install -d -o 1000 -g 1000 /home/dev/.local /home/dev/.local/share /home/dev/.local/share/containers
    exec $as_user HOME=/home/dev podman system service --time=0 "unix://$0"
"""
DOCKER_OF_USER = f"""
    {FOR_USER}
    exec $as_user HOME=/home/rootless dockerd-entrypoint.sh "--host=unix://$0"
"""


@dataclass(frozen=True)
class Outer:
    """An outer engine, and who asks it: root, or the user whose it is."""

    container: Dind
    engine: Engine
    #: A state folder that the engine sees at the same path, with the images that are built.
    state: Path
    rootless: bool

    def invoke(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a verb with this engine as DOCKER_HOST, as the user whose engine it is."""
        root = Project.here().root
        environment = {
            **os.environ,
            "DINDKIT_STATE": str(self.state),
            "DOCKER_CONFIG": str(self.state),
            "DOCKER_HOST": self.engine.host,
            "HOME": str(self.state),
            "PYTHONPATH": str(root),
        }
        return subprocess.run(
            [*self._as_user(), sys.executable, "-m", "invoke", "--search-root", root, *words],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def _as_user(self) -> list[str]:
        # The checkout and its Python may lie in a folder of root's.
        ids = [f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
        reads = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
        return ["setpriv", *ids, *reads] if self.rootless else []


def podman_image(project: Project, folder: Path) -> Built:
    """Lock and build the image with Podman, from Debian's archive as it is today."""
    shutil.copytree(Path(__file__).with_name("podman"), folder / "podman")
    options = BuildOptions(image=str(folder / "podman"))
    locking.lock(project, options, Progress(quiet=True))
    return build(project, options, Progress(quiet=True))


@contextlib.contextmanager
def podman(containers: Containers, image: Built, folder: Path, *, rootless: bool = False) -> Iterator[Outer]:
    """Yield Podman's service in a container of `image`; `folder` is to be new."""
    load.load(containers.engine, image, Progress(quiet=True))
    script, storage = (PODMAN_OF_USER, "/home/dev") if rootless else (ROOTFUL, "/var/lib/containers")
    with outer(
        containers,
        folder,
        rootless=rootless,
        image=image.reference,
        entrypoint=["sh", "-ec", script, f"{folder}/engine.sock"],
        volumes=[storage],
        environment={"PODMAN_IGNORE_CGROUPSV1_WARNING": "1"},
    ) as made:
        yield made


@contextlib.contextmanager
def rootless_docker(containers: Containers, image: Built, folder: Path) -> Iterator[Outer]:
    """Yield the daemon of a container of `image`, which is dind-rootless; `folder` is to be new."""
    load.load(containers.engine, image, Progress(quiet=True))
    with outer(
        containers,
        folder,
        rootless=True,
        image=image.reference,
        user="root",
        entrypoint=["sh", "-ec", DOCKER_OF_USER, f"{folder}/engine.sock"],
        volumes=["/home/rootless/.local/share/docker"],
        environment={"DOCKER_TLS_CERTDIR": ""},
    ) as made:
        yield made


@contextlib.contextmanager
def outer(
    containers: Containers, folder: Path, *command: str, rootless: bool = False, **options: Any
) -> Iterator[Outer]:
    """Yield the engine that a container has at `folder`/engine.sock; it sees `folder`, with images in it."""
    state = folder / "state"
    copy_images(Project.here(), state)
    if rootless:
        # Folders alone: files are other names of those that root has built.
        for path, _, _ in os.walk(folder):
            os.chown(path, USER, USER)
    mounts = [f"{folder}:{folder}", *options.pop("volumes")]
    container = containers.start(*command, volumes=mounts, **options)
    socket = folder / "engine.sock"
    found: list[Engine] = []

    def answers() -> bool:
        with contextlib.suppress(EngineError):
            found.append(connect(f"unix://{socket}", "DOCKER_HOST"))
        return bool(found)

    assert until(answers, 60), container.log(30)
    yield Outer(container, found[0], state, rootless)
    container.container.remove(force=True, v=True)
    containers.containers.remove(container.container)


def copy_images(project: Project, state: Path) -> None:
    """Give the state folder `state` what `project` has built, as files of its own that cost no space.

    A user who is not root may have them: locks are made anew, and nobody writes into what is built.
    """

    def link(source: str, target: str) -> str:
        if Path(source).name == "lock":
            return target
        try:
            os.link(source, target)
        except OSError:
            shutil.copy2(source, target)
        return target

    for name in ("code", "images", "layers", "packages"):
        shutil.copytree((project.state / name).resolve(), state / name, copy_function=link)
