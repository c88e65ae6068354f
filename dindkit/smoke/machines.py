"""The machine that the engine runs on: this host, or a virtual machine that is reached through its engine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from docker.errors import NotFound

from dindkit import leftovers, process
from dindkit.engine.discover import Engine
from dindkit.project import Project
from dindkit.smoke.context import KIND, Node
from dindkit.vm.running import GIVEN

#: Enters the namespaces of the machine's first process, from a container that sees the machine's processes.
ENTER = ("nsenter", "--target", "1", "--mount", "--uts", "--ipc", "--net", "--")
#: How many times longer than on this machine all may take in an emulated one.
SLOWNESS = 20.0
#: Names of the files that a virtual machine is given.
ARCHIVE, SCRIPT = "base.tar", "hello.sh"


def script() -> Path:
    """Return the script that says hello, which is this toolkit's and not a project's."""
    return Project.here().root / "scripts" / SCRIPT


@dataclass(frozen=True)
class ThisMachine:
    """The machine that this program runs on, for an engine that sees its files."""

    script: Path
    archive: Path
    is_here = True
    slowness = 1.0

    def run(self, *argv: str | Path) -> str:
        """Run a program and return what it printed; raises CommandError if it fails."""
        return process.run(argv).stdout.decode(errors="replace").strip()


@dataclass(frozen=True)
class VirtualMachine:
    """A virtual machine, by a privileged container on its engine."""

    node: Node
    slowness: float
    archive = Path("/", GIVEN, ARCHIVE)
    script = Path("/", GIVEN, SCRIPT)
    is_here = False

    def run(self, *argv: str | Path) -> str:
        """Run a program beside the machine's engine; raises EngineError if it fails."""
        return self.node.call(*ENTER, *map(str, argv))


@contextlib.contextmanager
def virtual_machine(engine: Engine, image: str, *, emulated: bool) -> Iterator[VirtualMachine]:
    """Yield the machine of `engine`, which must have `image`, one of ours."""
    container = engine.client.containers.create(
        image,
        ["sleep", "infinity"],
        privileged=True,
        pid_mode="host",
        network_mode="none",
        labels=leftovers.labels(KIND),
    )
    try:
        container.start()
        yield VirtualMachine(Node(container, "virtual machine"), SLOWNESS if emulated else 1.0)
    finally:
        with contextlib.suppress(NotFound):
            container.remove(force=True, v=True)
