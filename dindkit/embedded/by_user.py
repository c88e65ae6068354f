"""The engine of an ordinary user: root of a user namespace, with a network of its own.

Its tree is laid out by root of such a namespace too, so that ids on disk are those that the engine sees as
its own. Nothing of the host changes: the kernel takes back all that the namespaces hold.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import shutil
import signal
import sys
from pathlib import Path

from dindkit.embedded import machine
from dindkit.embedded.paths import Paths, Record
from dindkit.embedded.tree import PARTIAL, extracted_tree
from dindkit.errors import DindkitError, EngineError
from dindkit.image.built import Built
from dindkit.interrupts import deferred
from dindkit.process import CommandError, run
from dindkit.process import require as require_program
from dindkit.progress import Progress
from dindkit.sandbox import user_namespace
from dindkit.sandbox.user_namespace import NoUserNamespaceError

#: The device by which slirp4netns carries a network's traffic to the host's sockets.
TUNNEL = Path("/dev/net/tun")
#: The image whose tree has rootlesskit and slirp4netns.
IMAGE = "dind-rootless"

#: Places of a rootless dockerd: those of root's, since the machine is the engine's alone.
PLACES = {"XDG_CONFIG_HOME": "/etc", "XDG_DATA_HOME": "/var/lib", "XDG_RUNTIME_DIR": "/run", "HOME": "/root"}

#: Runs `worker` with this process's search path.
RUN_WORKER = """\
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from dindkit.embedded import by_user
by_user.worker()
"""


def require(progress: Progress) -> None:
    """Raise EngineError or ToolMissingError where the kernel lets this user boot no engine."""
    try:
        user_namespace.require()
    except NoUserNamespaceError as error:
        raise EngineError(
            f"No Docker engine answers, and none can be booted: there is no root here, and {error.reason}.",
            error.next_step,
        ) from error
    if not has_tunnel():
        progress.warn(
            f"containers of this engine reach nothing outside it, as this user may not write to {TUNNEL}."
            f" As root, run: chmod 0666 {TUNNEL}"
        )


def has_tunnel() -> bool:
    """Tell whether this user's engine can have a network that leads outside."""
    return os.access(TUNNEL, os.R_OK | os.W_OK)


def lay_out(paths: Paths, built: Built, progress: Progress) -> Path:
    """Return the folder with the tree of `built`, as `extracted_tree` does."""
    code = [sys.executable, "-B", "-c", RUN_WORKER, json.dumps(sys.path)]
    task = pickle.dumps((paths, built, progress.quiet))
    # If this process is killed, setpriv's signal ends unshare, and unshare ends the worker.
    guard = [require_program("setpriv"), "--pdeathsig", "KILL"]
    words = [*guard, require_program("unshare"), *user_namespace.OPTIONS, "--fork", "--kill-child", *code]
    try:
        done = run(words, input=task, stderr=None, check=False)
    except BaseException:
        delete(paths.trees / PARTIAL)
        raise
    if done.returncode:
        raise EngineError(
            "The engine's tree was not laid out.", "Is there an error of the kernel's? See: dmesg"
        )
    answer = pickle.loads(done.stdout)  # noqa: S301 - our own process wrote it
    if isinstance(answer, Exception):
        raise answer
    return Path(answer)


def worker() -> None:
    """Lay the tree out, in the namespace: standard input brings the task, its output takes the answer."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.umask(0o022)
    paths, built, quiet = pickle.load(sys.stdin.buffer)  # noqa: S301 - the same
    answer: Path | Exception
    try:
        answer = extracted_tree(paths, built, Progress(quiet=quiet))
    except (DindkitError, OSError) as error:
        answer = error
    sys.stdout.buffer.write(pickle.dumps(answer))


def link_layers(paths: Paths, built: Built, tree: Path, progress: Progress) -> None:
    """Do nothing: whether this user's engine can mount overlays is for the engine to find out."""
    del paths, built, tree, progress


def boot(paths: Paths, built: Built, tree: Path, record: Record, cgroup2: bool) -> None:
    """Start the engine; when this returns it is found by its command line, and so counts as running."""
    if cgroup2:
        raise EngineError("--cgroup2 needs root.", "Leave it out: an ordinary user's engine uses no cgroups.")
    record.write(paths.record)
    paths.link_socket()
    unshare = [*machine.UNSHARE, "--ipc", "--uts", *user_namespace.OPTIONS]
    if has_tunnel() and (tree / "usr/bin/rootlesskit").exists():
        outside = machine.script("rootless_network.sh")
        command = machine.boot(paths, built, tree, "none", _script(outside), **PLACES)
    else:
        unshare.append("--net")
        command = machine.boot(paths, built, tree, "none", _script(machine.script("no_network.sh")))
    with deferred():
        run([*machine.in_background(paths, [], unshare), *command])


def _script(path: Path) -> list[str]:
    """Return the words that run a script in the machine, which does not see the file."""
    return ["sh", "-c", path.read_text(), path.name]


def require_here(record: Record) -> None:
    """Stop the engine from wherever its processes are seen."""
    del record


def processes(paths: Paths) -> list[int]:
    """Return the ids of unshare and of the engine's first process; with either of them all others end."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if os.fsencode(paths.machine) in words and os.fsencode(machine.script("boot.sh").name) in [
                word.rpartition(b"/")[2] for word in words
            ]:
                found.append(int(folder.name))
                found += [
                    int(word) for word in (folder / "task" / folder.name / "children").read_text().split()
                ]
    return sorted(set(found))


def restore(paths: Paths, record: Record) -> None:
    """Nothing of the host was changed."""
    del paths, record


def delete(folder: Path) -> None:
    """Delete `folder`, also what belongs to ids of the user namespace in it."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        with contextlib.suppress(CommandError):  # the caller looks
            run(["unshare", *user_namespace.OPTIONS, "rm", "-rf", "--one-file-system", folder])
