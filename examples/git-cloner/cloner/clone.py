"""One clone: a private folder, a container that may write there and nowhere else, and what it leaves."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory

import docker
import requests
from docker.errors import APIError, DockerException, ImageNotFound
from docker.models.containers import Container
from docker.types import Mount, Ulimit

from cloner.errors import CloneFailedError, CloneTimeoutError, NotReadyError
from cloner.settings import Settings

#: What git runs with. The protocols are named once more for what a server redirects or refers to.
GIT_ENVIRONMENT = {
    "GIT_ALLOW_PROTOCOL": "https:http",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "HOME": "/tmp",
    "LC_ALL": "C.UTF-8",
}
#: A clock of its own, so that it ends even where this service is killed first; and a file that grows past the
#: limit is an error that git tells of, not a signal that ends it.
BOUNDED = ("sh", "-c", 'trap "" XFSZ; exec timeout --kill-after=2 "$@"', "sh")
#: Names the folder that a container of ours writes to.
LABEL = "git-cloner"
BLOCK = 4096  # bytes that an empty file or folder still costs


def sweep(settings: Settings) -> None:
    """Take away the folders and containers that a killed service left: no clone may be under way."""
    for folder in settings.folder.glob("clone-*"):
        rmtree(folder)
    with suppress(NotReadyError), _daemon() as client:
        _remove_orphans(client)


def ready(settings: Settings) -> None:
    """Raise NotReadyError where the daemon or its git image is not there yet."""
    with _daemon() as client, _image_is_there(settings):
        client.images.get(settings.image)


@contextmanager
def cloned(url: str, settings: Settings) -> Iterator[Path]:
    """Clone `url` and yield the folder of its files, which is gone once the block ends.

    Raises NotReadyError, CloneFailedError or CloneTimeoutError.
    """
    with TemporaryDirectory(prefix="clone-", dir=settings.folder) as folder, _daemon() as client:
        _remove_orphans(client)
        with _image_is_there(settings):
            container = client.containers.create(**_order(url, Path(folder), settings))
        try:
            container.start()
            _finish(container, Path(folder), settings)
        finally:
            container.remove(force=True)
        yield Path(folder) / "tree"


def _remove_orphans(client: docker.DockerClient) -> None:
    """Remove containers whose folder is gone: a daemon that went away could not be asked to."""
    for container in client.containers.list(all=True, sparse=True, filters={"label": LABEL}):
        if not Path(container.attrs["Labels"][LABEL]).exists():
            with suppress(APIError):  # another request removes it just now
                container.remove(force=True)


@contextmanager
def _daemon() -> Iterator[docker.DockerClient]:
    """Yield a client of the daemon that DOCKER_HOST names."""
    try:
        client = docker.from_env(timeout=30)
    except (DockerException, OSError) as error:  # OSError: certificates that the daemon has not written yet
        raise NotReadyError("the Docker daemon does not answer yet") from error
    try:
        yield client
    except (DockerException, requests.RequestException) as error:
        raise NotReadyError("the Docker daemon did not do as asked") from error
    finally:
        client.close()


@contextmanager
def _image_is_there(settings: Settings) -> Iterator[None]:
    try:
        yield
    except ImageNotFound as error:
        raise NotReadyError(f"the Docker daemon has no image {settings.image} yet") from error


def _order(url: str, folder: Path, settings: Settings) -> dict[str, object]:
    """Return how to create the container that clones `url` into `folder`/tree."""
    git = ["git", "-c", "http.followRedirects=false", "clone", "--quiet", "--depth=1", "--no-tags"]
    return {
        "image": settings.image,
        "entrypoint": [*BOUNDED, str(settings.seconds)],
        "command": [*git, "--", url, f"{folder}/tree"],
        "environment": GIT_ENVIRONMENT,
        "user": f"{os.getuid()}:{os.getgid()}",
        "mounts": [Mount(target=str(folder), source=str(folder), type="bind")],
        "tmpfs": {"/tmp": "size=16m"},
        "read_only": True,
        "init": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "mem_limit": "1g",
        "pids_limit": 64,
        "ulimits": [Ulimit(name="fsize", soft=settings.size, hard=settings.size)],
        "labels": {LABEL: str(folder)},
    }


def _finish(container: Container, folder: Path, settings: Settings) -> None:
    """Wait until git is done, and see that what it writes stays within bounds."""
    deadline = time.monotonic() + settings.seconds + 5
    while True:
        container.reload()
        _measure(folder, settings.size)
        if container.status == "exited":
            break
        if time.monotonic() > deadline:
            raise CloneTimeoutError(f"the clone took longer than {settings.seconds} s")
        time.sleep(0.2)
    code = container.attrs["State"]["ExitCode"]
    if code == 124:  # what timeout(1) ends with
        raise CloneTimeoutError(f"the clone took longer than {settings.seconds} s")
    if code:
        said = container.logs(tail=20).decode(errors="replace").strip().splitlines()
        raise CloneFailedError("; ".join(said) or f"git ended with exit code {code}")


def _measure(folder: Path, limit: int) -> None:
    """Raise CloneFailedError where the files in `folder` take more than `limit` bytes of disk."""
    total = 0
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            try:
                total += BLOCK + Path(place, name).lstat().st_blocks * 512
            except FileNotFoundError:  # git renames its files when they are whole
                continue
    if total > limit:
        raise CloneFailedError(f"the repository takes more than {limit} bytes")
