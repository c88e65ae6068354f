"""What every sandbox is: a tree goes in as a tar stream, a script runs in it, the tree comes out."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Generic, Protocol, TypeVar

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


@dataclass(frozen=True)
class ScriptRun(Generic[Taken]):
    """A script to run in a tree."""

    #: Writes the tree as a tar.
    write_tree: Callable[[IO[bytes]], None]
    #: POSIX sh.
    script: str
    #: Reads the tar of the tree after the script, and returns the result of the run.
    read_tree: Callable[[IO[bytes]], Taken]
    #: Variables in addition to ENVIRONMENT.
    environment: Mapping[str, str]
    #: How many bytes the tree may take.
    size: int
    #: The files of this folder are in PACKAGES_FOLDER during the run: read-only, or as copies.
    packages: Path | None = None


class Sandbox(Protocol):
    """Where a script runs in a tree, without access to the host."""

    def run(self, run: ScriptRun[Taken]) -> Taken:
        """Run the script, and return what `run.read_tree` returns. Raises SandboxError.

        Nothing of the run is left behind, even after an error.
        """


#: After its errors dpkg names all packages that had some.
LISTED = "Errors were encountered while processing:"

#: What some versions of unshare(1) say, before they end, where what they have started was killed.
KILLED = "unshare: sigprocmask unblock failed"

#: The next step where the tree does not fit.
MAKE_SPACE = "Free some memory: the tree is put together in a tmpfs."


def failure(code: int, said: str, make_space: str = MAKE_SPACE) -> SandboxError:
    """Return the error for a worker's exit code and its output."""
    lines = [line for line in said.strip().splitlines() if line.strip()]
    if LISTED in lines[1:]:  # what follows is only a list
        lines = lines[: lines.index(LISTED)]
    last = " / ".join(lines[-3:]) or "it said nothing"
    if code == worker.SCRIPT_FAILED:
        return SandboxError(
            f"A maintainer script failed: {last}.", "Run: invoke lock, if the archive has moved on."
        )
    if code == worker.NO_SPACE:
        return SandboxError("The sandbox ran out of space.", make_space)
    if code == -signal.SIGKILL or KILLED in last:
        return SandboxError("The sandbox was killed.", "Was memory short? See what the kernel says: dmesg")
    if code == worker.NO_MOUNT or last.startswith("unshare: "):
        return NoSandboxError(f"The sandbox cannot be made here: {last}.", NEXT_STEP)
    few_files = os.strerror(errno.EMFILE) in last
    next_step = "Allow more open files: ulimit -n" if few_files else "See what the kernel says: dmesg"
    return SandboxError(f"The sandbox failed (exit code {code}): {last}.", next_step)


NEXT_STEP = "Run as root, or allow user namespaces, or make a Docker engine reachable (DOCKER_HOST)."
