"""The sandbox of a container without privileges: the root of scripts is changed, and nothing else.

For root without CAP_SYS_ADMIN, as in a CI job: it may make no mount and no namespace, but Docker's default
capabilities hold what laying out a tree takes. The container around it is then the sandbox.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from subprocess import Popen

from dindkit.sandbox import chroot_worker, confine
from dindkit.sandbox.exchange import exchange
from dindkit.sandbox.interface import NoSandboxError, ScriptRun, Taken

#: Runs the worker; see RUN_WORKER of the sandbox of namespaces.
RUN_WORKER = f"""\
import sys
sys.path.insert(0, sys.argv.pop(1))
from dindkit.sandbox import {chroot_worker.__name__.rpartition(".")[2]} as worker
sys.exit(worker.main(*sys.argv[1:]))
"""

#: Capabilities that the worker needs beside those that scripts keep: <linux/capability.h>.
NEEDED = {**confine.KEPT, "setpcap": 8, "sys_chroot": 18, "mknod": 27}
SYS_ADMIN = 21

#: What is said where this sandbox is taken.
ANNOUNCEMENT = (
    "sandbox: chroot, as neither namespaces nor an engine are to be had here. Maintainer scripts share this "
    "container's network, host name and processes; the container keeps them from the host."
)


def effective() -> int:
    """Return this process's effective capabilities as a mask: proc_pid_status(5). 0 where there are none."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1], 16) for line in lines if line.startswith("CapEff:")), 0)


def is_needed() -> bool:
    """Tell whether this is root without CAP_SYS_ADMIN, who can make a sandbox in no other way."""
    return hasattr(os, "geteuid") and os.geteuid() == 0 and not effective() >> SYS_ADMIN & 1


class Chroot:
    """The sandbox that changes scripts' root, on the file system of `folder`.

    Scripts have no /proc, the same devices, capabilities and system calls as in the other sandboxes, and the
    network, host name and process ids of this process.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, run: ScriptRun[Taken]) -> Taken:
        """See Sandbox. The size is not limited: the run fails where the file system is full."""
        missing = [name for name, number in NEEDED.items() if not effective() >> number & 1]
        if missing:
            options = " ".join(f"--cap-add={name.upper()}" for name in missing)
            raise NoSandboxError(
                f"A sandbox by chroot needs capabilities that this container lacks: {', '.join(missing)}.",
                f"Start it with {options}",
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        words = [str(os.getpid()), str(self.folder), run.script, str(run.packages or "")]
        python = [sys.executable, "-I", "-B", "-c", RUN_WORKER, str(Path(__file__).parents[2])]
        # On SIGTERM the worker ends the scripts and deletes the tree.
        make_space = f"Free some space in {self.folder}."
        return exchange([*python, *words], run, Popen.terminate, make_space)
