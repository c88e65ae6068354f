"""What every sandbox is: a tree goes in as a tar stream, a script runs in it, the tree comes out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import IO, Protocol, TypeVar

from dindkit.errors import DindkitError
from dindkit.sandbox import worker

Taken = TypeVar("Taken")

#: The environment of every script, the same on every host.
ENVIRONMENT = {
    "DEBCONF_NONINTERACTIVE_SEEN": "true",
    "DEBIAN_FRONTEND": "noninteractive",
    "HOME": "/root",
    "LC_ALL": "C",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "TZ": "UTC",
}
HOSTNAME = "dindkit"
#: The folder with the packages inside the sandbox.
PACKAGES_FOLDER = worker.PACKAGES_FOLDER


class SandboxError(DindkitError):
    """The sandbox cannot be made here, or a script failed in it."""


class NoSandboxError(SandboxError):
    """No namespaces can be made on this host."""


class Sandbox(Protocol):
    """One run of one script in one tree."""

    def run(
        self,
        feed: Callable[[IO[bytes]], None],
        script: str,
        take: Callable[[IO[bytes]], Taken],
        environment: dict[str, str],
        size: int,
        packages: Path | None = None,
    ) -> Taken:
        """Run `script` (POSIX sh) in the tree whose tar `feed` writes; return what `take` makes of it.

        `environment` is added to ENVIRONMENT; `size` is how many bytes the tree may take. The files in the
        folder `packages` are seen in PACKAGES_FOLDER: read-only there or, where it may be written, copies.
        Raises SandboxError; nothing of the run is left behind then.
        """


def failure(code: int, said: str) -> SandboxError:
    """Return the error for a worker's exit code and its output."""
    lines = [line for line in said.strip().splitlines() if line.strip()]
    last = " / ".join(lines[-3:]) or "it said nothing"
    if code == worker.SCRIPT_FAILED:
        return SandboxError(
            f"A maintainer script failed: {last}.", "Run: invoke lock, if the archive has moved on."
        )
    if code == worker.NO_SPACE:
        return SandboxError(
            "The sandbox ran out of space.", "Free some memory: the tree is put together in a tmpfs."
        )
    if code == worker.NO_MOUNT or last.startswith("unshare: "):
        return NoSandboxError(f"The sandbox cannot be made here: {last}.", NEXT_STEP)
    return SandboxError(f"The sandbox failed (exit code {code}): {last}.", "See what the kernel says: dmesg")


NEXT_STEP = "Run as root, or allow user namespaces, or make a Docker engine reachable (DOCKER_HOST)."
