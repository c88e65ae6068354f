"""A pytest-xdist worker as a host of its own: a network, a state folder, and so an engine.

Engines and their containers meet in the bridges, subnets, names and ports of one host. In network namespaces
of their own they do not, so that tests which need an engine run side by side. slirp4netns carries traffic to
the outside without a rule or a link on this machine.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from dindkit.embedded import cgroups
from dindkit.embedded.paths import Paths
from dindkit.embedded.tree import extracted_tree
from dindkit.progress import Progress
from dindkit.project import Project
from tests.support.host import enter_new_network, share_images, share_trees
from tests.support.suites import build_image

#: Bytes; what fits through most networks that this machine may be in.
MTU = "1400"


def prepare_hosts(project: Project, suite: str, progress: Progress) -> Callable[[], None]:
    """Make what hosts share and none may make: the images, and the tree that engines start from.

    The tree is where temporary files are, as the hosts' state folders will be: engines link its files. Return
    what deletes it.
    """
    for image in ("base", "dind"):
        built = build_image(project, image, suite, progress)
    state = Path(tempfile.mkdtemp(prefix="dindkit-hosts-"))
    share_images(project, state)
    paths = Paths(replace(project, state=state))
    paths.trees.mkdir(parents=True)
    extracted_tree(paths, built, progress)
    os.environ["DINDKIT_STATE"] = str(state)
    return lambda: shutil.rmtree(state)


def hold_controllers() -> Callable[[], None]:
    """Enable the controllers that engines enable at the top of cgroup v2; return what disables them again.

    All hosts of this machine share the top: what one engine has enabled, and disables when it stops, would be
    there or not for others, as they come and go.
    """
    name, missing = f"dindkit-tests-{os.getpid()}", cgroups.missing_controllers()
    cgroups.create(name, missing)
    return lambda: cgroups.remove(name, missing)


@contextlib.contextmanager
def worker_host(project: Project) -> Iterator[Path]:
    """Move this process into a network namespace, and yield a state folder that has `project`'s images.

    Threads that exist already stay where they are. Raises OSError without root.
    """
    folder = Path(tempfile.mkdtemp(prefix="dindkit-host-"))
    exit_read, exit_write = os.pipe()
    _enter_network(exit_read)
    try:
        share_images(project, folder)
        share_trees(project, folder)
        yield folder
    finally:
        os.close(exit_write)  # slirp4netns ends by it, also where this process is killed
        shutil.rmtree(folder, ignore_errors=True)


def _enter_network(exit_read: int) -> None:
    outside = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    enter_new_network()
    ready_read, ready_write = os.pipe()
    subprocess.Popen(
        [
            *("nsenter", f"--net=/proc/self/fd/{outside}", "slirp4netns", "--configure", f"--mtu={MTU}"),
            *(f"--exit-fd={exit_read}", f"--ready-fd={ready_write}", str(os.getpid()), "eth0"),
        ],
        pass_fds=(outside, exit_read, ready_write),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(ready_write)
    assert os.read(ready_read, 1), "slirp4netns did not start"
    for descriptor in (ready_read, outside, exit_read):
        os.close(descriptor)
