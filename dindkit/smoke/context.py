"""What all smoke topologies share: the engine, a folder that it sees, and containers that are removed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import requests
from docker.errors import APIError, DockerException, NotFound
from docker.models.containers import Container
from docker.types import Mount

from dindkit import leftovers
from dindkit.engine.discover import Engine
from dindkit.engine.exec_command import exec_command
from dindkit.errors import DindkitError, EngineError
from dindkit.image.build import Built
from dindkit.progress import Progress

#: Seconds within which a nested daemon must answer.
READY = 90.0
#: Exit code after SIGKILL, which ends all processes of a container when its first process ends.
KILLED = 137
#: What this module makes in an engine has this kind in its label: see leftovers.
KIND = "smoke"


class StepError(EngineError):
    """A named part of a topology has failed."""


@dataclass(frozen=True)
class Node:
    """A running container that has a Docker client in it, and maybe a daemon."""

    container: Container
    name: str
    #: Seconds within which its daemon must answer.
    ready: float = READY

    def call(self, *argv: str, env: Mapping[str, str] | None = None) -> str:
        """Run a program in the container and return what it printed; raises EngineError if it fails."""
        try:
            done = exec_command(self.container, argv, environment=env)
        except APIError:
            self._require_running()
            raise
        if done.exit_code == KILLED:
            # The program was killed because the container ends: wait until it has ended.
            with contextlib.suppress(requests.RequestException):
                self.container.wait(timeout=1)
        out, err = (part.decode(errors="replace").strip() for part in (done.output, done.error))
        if done.exit_code:
            self._require_running()
            raise EngineError(f"`{' '.join(argv)}` in the {self.name}: {err or out or 'it said nothing'}")
        return out

    def _require_running(self) -> None:
        self.container.reload()
        if self.container.status in ("exited", "dead"):
            raise EngineError(f"The {self.name} ended with exit code {self.exit_code()}.")

    def wait(self) -> None:
        """Return once the container's client reaches its daemon; raises EngineError if it never does."""
        deadline = time.monotonic() + self.ready
        while time.monotonic() < deadline:
            self._require_running()
            with contextlib.suppress(EngineError):
                self.call("docker", "version", "--format", "{{.Server.Version}}")
                return
            time.sleep(0.1)
        raise EngineError(f"The {self.name} did not answer within {self.ready:.0f} s.")

    def exit_code(self) -> int:
        """Return the exit code of the container's own program, once it has ended."""
        return int(self.container.attrs["State"]["ExitCode"])

    def log_tail(self, lines: int = 15) -> list[str]:
        """Return the last `lines` of the container's log."""
        with contextlib.suppress(DockerException):
            return self.container.logs(tail=lines).decode(errors="replace").splitlines()
        return []


class Machine(Protocol):
    """The machine that the engine runs on: level 0."""

    @property
    def archive(self) -> Path:
        """The archive of `base`, on the machine."""

    @property
    def script(self) -> Path:
        """The copy of scripts/hello.sh on the machine."""

    @property
    def slowness(self) -> float:
        """How many times longer than on this machine all may take there."""

    @property
    def is_here(self) -> bool:
        """Whether it is the machine that this program runs on."""

    def run(self, *argv: str | Path) -> str:
        """Run a program on the machine and return what it printed; raises DindkitError if it fails."""


def _explain(error: Exception) -> tuple[str, str]:
    """Return cause and next step; of an engine's error only its message, without the request."""
    if isinstance(error, DindkitError):
        return error.cause, error.next_step
    return str(error.explanation if isinstance(error, APIError) else error), ""


@dataclass(frozen=True)
class SmokeContext:
    """The engine, images and folder that a topology is checked with."""

    engine: Engine
    progress: Progress
    #: The image of daemons and clients.
    image: str
    #: The image that runs inside them; `nested` takes the image of the user's choice instead.
    base: Built
    nested_image: str
    machine: Machine
    #: A folder of the machine that the engine sees at the same path.
    folder: Path
    #: A part of the names of everything that this smoke test makes.
    token: str

    @contextlib.contextmanager
    def part(self, title: str, *nodes: Node) -> Iterator[None]:
        """Where the block fails, raise StepError with `title`, and show the last log lines of `nodes`."""
        try:
            yield
        except StepError:
            raise  # the innermost part is the one that failed
        except (DindkitError, DockerException, requests.RequestException) as error:
            for node in nodes:
                for line in node.log_tail():
                    self.progress.note(f"{node.name}: {line}")
            cause, next_step = _explain(error)
            raise StepError(f"{title} failed: {cause}", next_step) from error

    @contextlib.contextmanager
    def node(
        self, name: str, command: Sequence[str] = (), *, mounts: Sequence[Mount] = (), **options: Any
    ) -> Iterator[Node]:
        """Start a privileged container of the image, and remove it with its volumes at the end.

        `options` are those of docker.models.containers.ContainerCollection.create.
        """
        settings = {"privileged": True, **options}
        with self.running(name, lambda: self._create(name, command, mounts, settings)) as node:
            yield node

    @contextlib.contextmanager
    def running(self, name: str, make: Callable[[], Container]) -> Iterator[Node]:
        """Start the container that `make` makes, and remove it with its volumes at the end."""
        with self.part(f"making the {name}"):
            container = make()
        try:
            with self.part(f"starting the {name}"):
                container.start()
            yield Node(container, name, READY * self.machine.slowness)
        finally:
            with contextlib.suppress(NotFound):
                container.remove(force=True, v=True)

    def _create(
        self, name: str, command: Sequence[str], mounts: Sequence[Mount], options: dict[str, Any]
    ) -> Container:
        try:
            return self.engine.client.containers.create(
                self.image,
                list(command),
                name=self.name(name),
                labels=leftovers.labels(KIND),
                mounts=[*mounts, self.archive_mount()],
                **options,
            )
        except APIError as error:
            for path in (self.folder, self.machine.archive):
                if str(path) in str(error.explanation):
                    raise EngineError(
                        f"The engine at {self.engine.host} does not see {path} of this machine.",
                        "Set DINDKIT_STATE to a folder that both see at the same path.",
                    ) from error
            raise

    @contextlib.contextmanager
    def network(self) -> Iterator[str]:
        """Make a bridge network of the test's own, yield its name, and remove it at the end."""
        network = self.engine.client.networks.create(self.name("network"), labels=leftovers.labels(KIND))
        try:
            yield self.name("network")
        finally:
            network.remove()

    @contextlib.contextmanager
    def volume(self, name: str) -> Iterator[str]:
        """Make a volume of the test's own, yield its name, and remove it at the end."""
        volume = self.engine.client.volumes.create(self.name(name), labels=leftovers.labels(KIND))
        try:
            yield self.name(name)
        finally:
            volume.remove(force=True)

    def name(self, name: str) -> str:
        """Return a unique name for something in the engine."""
        return f"dindkit-{self.token}-{name.replace(' ', '-')}"

    def archive_mount(self) -> Mount:
        """Return the mount that brings the archive of `base` into a node, without a copy."""
        return Mount("/nested.tar", str(self.machine.archive), type="bind", read_only=True)

    def load_base(self, node: Node) -> str:
        """Load `base` into the daemon that `node` talks to, and return its reference."""
        node.call("docker", "load", "--input", "/nested.tar")
        return self.base.reference
