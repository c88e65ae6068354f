"""The sandbox of Linux: namespaces of this host, as root or as an ordinary user with subordinate ids."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

from dindkit import process
from dindkit.errors import ToolMissingError
from dindkit.sandbox import emulation, user_namespace
from dindkit.sandbox.exchange import exchange
from dindkit.sandbox.interface import HOSTNAME, NoSandboxError, ScriptRun, Taken

#: Runs the worker. Python's isolated mode (-I) ignores the user's own modules and variables, so the folder of
#: this package is passed as an argument.
RUN_WORKER = """\
import sys
sys.path.insert(0, sys.argv.pop(1))
from dindkit.sandbox import worker
sys.exit(worker.main(*sys.argv[1:]))
"""


#: The same, in a user namespace in which all ids are the same as outside.
RUN_IN_USER_NAMESPACE = """\
import sys
sys.path.insert(0, sys.argv.pop(1))
from dindkit.sandbox import emulation
sys.exit(emulation.run_in_user_namespace(sys.argv[1:]))
"""


def _emulator(architecture: str) -> str:
    """Return the path of QEMU for `architecture`. Raises ToolMissingError, NoSandboxError."""
    if architecture not in emulation.MACHINES:
        raise NoSandboxError(
            f"This machine does not run programs of {architecture}, and no emulator for them is known.",
            "Name an engine of that architecture: --builder CONTEXT",
        )
    first, second = emulation.interpreter_names(architecture)
    try:
        return process.require(first)
    except ToolMissingError as error:
        try:
            found = process.require(second)
        except ToolMissingError:
            raise error from None
        # Debian had a dynamically linked one under this name until bookworm.
        if not emulation.is_static(Path(found)):
            raise
        return found


class Namespaces:
    """The sandbox of Linux: new mount, PID, network, UTS and IPC namespaces, without root user too.

    The tree lives in a tmpfs that only these namespaces can see, so the kernel frees it when the last process
    ends, however it ends. `folder` is an empty folder to mount on. Programs of another `architecture`
    (Debian's name) than this machine's run in QEMU's user emulation.
    """

    def __init__(self, folder: Path, architecture: str = "") -> None:
        self.folder = folder
        self.architecture = architecture

    def argv(self, script: str, size: int, packages: Path | None = None) -> list[str]:
        """Return the command that runs the worker. Raises NoSandboxError, ToolMissingError."""
        if platform.system() != "Linux":
            raise NoSandboxError(
                "Maintainer scripts run on Linux only.", "Make a Docker engine reachable (DOCKER_HOST)."
            )
        python, here = [sys.executable, "-I", "-B", "-c"], str(Path(__file__).parents[2])
        words = ["--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--kill-child"]
        if os.geteuid() != 0:
            user_namespace.require()
            words += user_namespace.OPTIONS
        # If this process is killed, setpriv's signal ends unshare, and unshare ends the sandbox's PID 1.
        guard = [process.require("setpriv"), "--pdeathsig", "KILL"]
        interpreter = ""
        if emulation.is_foreign(self.architecture):
            interpreter = f"{self.architecture}:{_emulator(self.architecture)}"
            if os.geteuid() == 0:
                guard += [*python, RUN_IN_USER_NAMESPACE, here]
        return [
            *guard,
            process.require("unshare"),
            *words,
            *python,
            RUN_WORKER,
            here,
            str(self.folder),
            str(size),
            HOSTNAME,
            script,
            str(packages or ""),
            interpreter,
        ]

    def run(self, run: ScriptRun[Taken]) -> Taken:
        """See Sandbox."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # Not unshare alone: killed between its fork and its child's prctl(), it would leave that child.
        return exchange(self.argv(run.script, run.size, run.packages), run, process.kill_group)
