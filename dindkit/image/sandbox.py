"""Where maintainer scripts run: a tree goes in as a tar stream, a script runs in it, the tree comes out.

Two rooms of the same shape: `Namespaces` on Linux, and `Container` (room.py) on a Docker engine. `Anywhere`
takes the first where it can be had, else the second.
"""

from __future__ import annotations

import os
import platform
import sys
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Protocol, TypeVar, cast

from dindkit import process
from dindkit.errors import DindkitError, ToolMissingError
from dindkit.image import inside
from dindkit.progress import Progress
from dindkit.project import Project

Taken = TypeVar("Taken")

#: All that a script sees of the world outside; the same on every host.
ENVIRONMENT = {
    "DEBCONF_NONINTERACTIVE_SEEN": "true",
    "DEBIAN_FRONTEND": "noninteractive",
    "HOME": "/root",
    "LC_ALL": "C",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "TZ": "UTC",
}
HOSTNAME = "dindkit"


class SandboxError(DindkitError):
    """The sandbox cannot be had here, or a script failed in it."""


class NoSandboxError(SandboxError):
    """Namespaces cannot be had on this host."""


class Sandbox(Protocol):
    """One run of one script in one tree."""

    def run(
        self,
        feed: Callable[[IO[bytes]], None],
        script: str,
        take: Callable[[IO[bytes]], Taken],
        environment: dict[str, str],
        size: int,
    ) -> Taken:
        """Run `script` (POSIX sh) in the tree whose tar `feed` writes; return what `take` makes of it.

        `environment` is added to ENVIRONMENT; `size` is how many bytes the tree may take. Raises
        SandboxError; nothing of the run is left behind then.
        """


def failure(code: int, said: str) -> SandboxError:
    """Return the error for a worker's exit code and its last words."""
    lines = [line for line in said.strip().splitlines() if line.strip()]
    last = " / ".join(lines[-3:]) or "it said nothing"
    if code == inside.SCRIPT_FAILED:
        return SandboxError(
            f"A maintainer script failed: {last}.", "Run: invoke lock, if the archive has moved on."
        )
    if code == inside.NO_SPACE:
        return SandboxError(
            "The sandbox ran out of space.", "Free some memory: the tree is put together in a tmpfs."
        )
    if code == inside.NO_MOUNT or last.startswith("unshare: "):
        return NoSandboxError(f"The sandbox cannot be made here: {last}.", NEXT_STEP)
    return SandboxError(f"The sandbox failed (exit code {code}): {last}.", "See what the kernel says: dmesg")


NEXT_STEP = "Run as root, or allow user namespaces, or make a Docker engine reachable (DOCKER_HOST)."


def _user_namespace() -> list[str]:
    """Return unshare's words that make an ordinary user root in a namespace with more than one id."""
    # Asked first: where the kernel refuses, unshare ends and leaves its helper for --map-auto behind.
    refused = process.run(["unshare", "--user", "true"], check=False).stderr.decode(errors="replace").strip()
    if refused:
        raise NoSandboxError(f"There is no root here, and no user namespace ({refused}).", NEXT_STEP)
    process.require("newuidmap")
    user = str(os.getuid())
    if not any(user in _owners(Path("/etc") / name) for name in ("subuid", "subgid")):
        raise NoSandboxError(
            "There is no root here, and this user has no subordinate ids.",
            "Run as root, or: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER",
        )
    return ["--user", "--map-root-user", "--map-auto"]


def _owners(file: Path) -> set[str]:
    """Return the numeric ids that own a range in subuid(5) or subgid(5)."""
    import pwd  # not there on every host that can build with an engine

    names = {line.partition(":")[0] for line in file.read_text().splitlines()} if file.is_file() else set()
    return {str(pwd.getpwnam(name).pw_uid) if not name.isdigit() else name for name in names if _known(name)}


def _known(name: str) -> bool:
    import pwd

    if name.isdigit():
        return True
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


class Namespaces:
    """The sandbox of Linux: new mount, PID, network, UTS and IPC namespaces, without root user too.

    The tree lives in a tmpfs that only these namespaces can see, so the kernel itself clears it away when the
    last process ends, however it ends. `folder` is an empty folder to mount on.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def argv(self, script: str, size: int) -> list[str]:
        """Return the command that runs the worker. Raises NoSandboxError, ToolMissingError."""
        if platform.system() != "Linux":
            raise NoSandboxError(
                "Maintainer scripts run on Linux only.", "Make a Docker engine reachable (DOCKER_HOST)."
            )
        worker = [sys.executable, "-I", "-B", inside.__file__]
        words = ["--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--kill-child"]
        if os.geteuid() != 0:
            words += _user_namespace()
        # Should this process be killed, setpriv's signal ends unshare, and that the sandbox's PID 1.
        guard = [process.require("setpriv"), "--pdeathsig", "KILL"]
        return [
            *guard,
            process.require("unshare"),
            *words,
            *worker,
            str(self.folder),
            str(size),
            HOSTNAME,
            script,
        ]

    def run(
        self,
        feed: Callable[[IO[bytes]], None],
        script: str,
        take: Callable[[IO[bytes]], Taken],
        environment: dict[str, str],
        size: int,
    ) -> Taken:
        """See Sandbox."""
        self.folder.mkdir(parents=True, exist_ok=True)
        running = process.spawn(self.argv(script, size), env=ENVIRONMENT | environment)
        stdin, stdout, stderr = (
            cast(IO[bytes], pipe) for pipe in (running.stdin, running.stdout, running.stderr)
        )
        said: list[bytes] = []
        failures: list[BaseException] = []
        threads = [
            threading.Thread(target=_feed, args=(feed, stdin, failures)),
            threading.Thread(target=lambda: said.append(stderr.read())),
        ]
        try:
            for thread in threads:
                thread.start()
            taken = _take(take, stdout)
            code = running.wait()
        finally:
            running.kill()
            running.wait()
            for thread in threads:
                thread.join()
            stdout.close()
            stderr.close()
        if code:
            raise failure(code, b"".join(said).decode(errors="replace"))
        if failures:
            raise failures[0]
        if isinstance(taken, tarfile.TarError):
            raise taken
        return taken


#: Returns a sandbox that is not of this host, or None. tasks.py sets it, because nothing here knows engines.
elsewhere: Callable[[Project, Progress], Sandbox | None] | None = None


class Anywhere:
    """Namespaces, or where this host can make none, the sandbox that is to be had elsewhere."""

    def __init__(self, project: Project, progress: Progress) -> None:
        self._project, self._progress = project, progress

    def run(
        self,
        feed: Callable[[IO[bytes]], None],
        script: str,
        take: Callable[[IO[bytes]], Taken],
        environment: dict[str, str],
        size: int,
    ) -> Taken:
        """See Sandbox."""
        here = Namespaces(self._project.state / "sandbox")
        try:
            return here.run(feed, script, take, environment, size)
        except (NoSandboxError, ToolMissingError):
            room = elsewhere(self._project, self._progress) if elsewhere else None
            if room is None:
                raise
        return room.run(feed, script, take, environment, size)


def _feed(feed: Callable[[IO[bytes]], None], pipe: IO[bytes], failures: list[BaseException]) -> None:
    try:
        with pipe:
            feed(pipe)
    except BrokenPipeError:
        pass  # the worker has ended; its exit code tells why
    except BaseException as error:
        failures.append(error)


def _take(take: Callable[[IO[bytes]], Taken], pipe: IO[bytes]) -> Taken | tarfile.TarError:
    """Hand a broken stream back instead of raising it: where the worker failed too, it explains more."""
    taken: Taken | tarfile.TarError
    try:
        taken = take(pipe)
    except tarfile.TarError as error:
        taken = error
    while pipe.read(1 << 20):
        pass  # what follows the end mark: the worker must not wait for us
    return taken
