"""Where engines of this machine listen. Imports nothing of Docker's library, which takes its time."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

from dindkit.engine import virtual
from dindkit.errors import EngineError
from dindkit.project import Project

#: The next step where DOCKER_HOST leads nowhere.
START_OR_UNSET = "Start that engine, or unset DOCKER_HOST."

#: The longest path of a socket in bytes (unix(7)), its final zero included.
AF_UNIX_MAX = 108


def may_answer(project: Project) -> bool:
    """Tell whether there is anything at which an engine could be asked for: a setting, or a socket."""
    named = os.environ.get("DOCKER_HOST") or os.environ.get("DOCKER_CONTEXT")
    configuration = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker", "config.json")
    places = [configuration, embedded(project), virtual.file(project), *(path for path, _ in usual())]
    return bool(named) or any(path.exists() for path in places)


def require_named() -> None:
    """Raise EngineError where DOCKER_HOST names a socket that is not there."""
    host = os.environ.get("DOCKER_HOST", "")
    if host.startswith("unix:///") and not os.path.lexists(host.removeprefix("unix://")):
        raise EngineError(no_answer("DOCKER_HOST", host, os.strerror(errno.ENOENT)), START_OR_UNSET)


def no_answer(found_by: str, host: str, reason: str) -> str:
    """Return the sentence about an address at which no engine answers."""
    return f"{found_by}: no engine answers at {host} ({reason})."


def usual() -> list[tuple[Path, str]]:
    """Return the sockets of Docker and Podman, with whose they are."""
    runtime = _runtime_folder()
    return [
        (Path("/var/run/docker.sock"), "Docker's socket"),
        (runtime / "docker.sock", "rootless Docker's socket"),
        (Path.home() / ".docker/run/docker.sock", "Docker Desktop's socket"),
        (Path("/run/podman/podman.sock"), "Podman's socket"),
        (runtime / "podman/podman.sock", "rootless Podman's socket"),
    ]


def embedded(project: Project) -> Path:
    """Return where the embedded engine of `project` listens, whether it runs or not."""
    socket = project.state / "engine/run/docker.sock"
    if len(os.fsencode(socket)) < AF_UNIX_MAX:
        return socket
    digest = hashlib.sha256(os.fsencode(project.state)).hexdigest()
    place = Path("/run") if os.geteuid() == 0 else _runtime_folder()
    return place / f"dindkit-{digest[:12]}/docker.sock"  # this folder is a link to the real one


def _runtime_folder() -> Path:
    """Return the folder for this user's sockets: no other user may write there."""
    return Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}")
