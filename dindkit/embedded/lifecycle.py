"""Start and stop the embedded engine: the image as this host's Docker engine, where none is installed.

The built tree gets mount, PID, IPC, UTS and cgroup namespaces of its own (boot.sh), shares the host's
network, and runs its own entrypoint. What it changes on the host is recorded before it starts, and undone
when it stops.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType

from dindkit.embedded import bridges, cgroups, host_state, packet_filter
from dindkit.embedded.paths import Paths, Record
from dindkit.embedded.tree import extracted_tree
from dindkit.engine.daemon_settings import settings
from dindkit.engine.discover import EMBEDDED, Engine, connect
from dindkit.errors import DindkitError, EngineError
from dindkit.files import locked
from dindkit.image.built import Built, opened
from dindkit.process import require, run
from dindkit.progress import Progress
from dindkit.project import Project, check_folders

#: Seconds within which the daemon must answer, and within which it must stop.
START = 90.0
STOP = 40.0
#: Seconds within which killed processes must have ended.
KILL = 10.0

#: Top-level folders of an operating system. All other top-level folders of the host are mounted in the engine
#: at the same path, so that bind mounts find the same files.
SYSTEM = {"bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "lost+found", "proc", "run", "sbin"}
SYSTEM |= {"sys", "usr", "var"}

#: Later mounts of the host appear in the engine too; the engine's mounts do not appear on the host.
UNSHARE = ("unshare", "--mount", "--propagation=slave", "--pid", "--fork", "--kill-child")

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def start(
    project: Project, built: Built, progress: Progress, cgroup2: bool = False, only_for: str = ""
) -> Engine:
    """Boot `built` as an engine, or return the one that runs already.

    It runs until it is stopped. With `only_for` (an owner.Owner as text) it runs for that process alone. With
    `cgroup2` it runs on cgroup v2 where the host's programs use v1 (the host must mount v2 somewhere too); it
    is meant for tests. Raises EngineError without root, where the kernel or the host lacks something, or
    where the daemon does not come up; nothing of it is left then.
    """
    _require_root()
    require("mount")  # a package of its own, which small images are without: boot.sh would end at its first
    check_folders(project, progress)
    paths = Paths(project)
    with _locked(paths):
        record = Record.load(paths.record)
        if record is not None:
            with contextlib.suppress(EngineError):
                engine = connect(f"unix://{paths.socket}", EMBEDDED)
                if record.abandoned or (record.owner and not only_for):
                    replace(record, owner=only_for).write(paths.record)
                return engine
            progress.note("The embedded engine ended without being stopped: clearing up first.")
            _stop(paths)
        tree = extracted_tree(paths, built, progress)
        try:
            with progress.step("boot the engine"):
                _boot(paths, built, tree, cgroup2, only_for)
                engine = _wait(paths)
        except BaseException:
            for line in paths.log_tail():
                progress.note(f"engine: {line}")
            _stop(paths, seconds=0)
            raise
        for other in paths.trees.iterdir():
            if other != tree:
                shutil.rmtree(other, ignore_errors=True)  # another start may do the same
        return engine


def stop(project: Project, progress: Progress, purge: bool = False) -> None:
    """Stop the engine and undo what it changed on the host; with `purge`, delete its images and volumes too.

    This also cleans up after an engine that was killed, or that ended with the host.
    """
    _require_root()
    paths = Paths(project)
    if not paths.folder.exists():
        progress.note("The embedded engine does not run, and has no data.")
        return
    with _locked(paths), progress.step("stop the engine"):
        _stop(paths)
        if purge:
            shutil.rmtree(paths.folder)


def stop_for(project: Project, progress: Progress, token: str) -> None:
    """Stop the engine if it runs for the process `token` (an owner.Owner as text) alone."""
    paths = Paths(project)
    with _locked(paths):
        record = Record.load(paths.record)
        if record is not None and record.owner == token:
            with progress.step("stop the engine"):
                _stop(paths)


def is_abandoned(project: Project) -> bool:
    """Return whether an engine runs for a process that was killed, and this process may stop it."""
    record = Record.load(Paths(project).record) if os.geteuid() == 0 else None
    return record is not None and record.abandoned and record.before.namespace == host_state.namespace()


def exists(project: Project) -> bool:
    """Tell whether there is an engine of `project`, running or not."""
    return Paths(project).folder.exists()


def status(project: Project) -> Engine:
    """Return the running engine; raises EngineError where it does not run."""
    paths = Paths(project)
    try:
        return connect(f"unix://{paths.socket}", EMBEDDED)
    except EngineError as error:
        if paths.record.exists():
            raise EngineError(
                f"The embedded engine was started, but does not answer: its log is {paths.log}.",
                "Run: invoke engine.stop",
            ) from error
        raise EngineError(
            "The embedded engine does not run.", "Start it with: invoke engine.start"
        ) from error


def _require_root() -> None:
    if os.geteuid() != 0:
        raise EngineError(
            "No Docker engine answers, and booting the image as one needs root.",
            "Start Docker or Podman, or run this command as root.",
        )


@contextlib.contextmanager
def _locked(paths: Paths) -> Iterator[None]:
    """Let one start or stop at a time into the block."""
    with locked(paths.lock):
        paths.folder.mkdir(exist_ok=True)
        yield


def _boot(paths: Paths, built: Built, tree: Path, cgroup2: bool, only_for: str) -> None:
    version = "2" if cgroup2 else cgroups.version()
    shutil.rmtree(paths.run, ignore_errors=True)
    for folder in (paths.data, paths.run, paths.etc, paths.machine):
        folder.mkdir(exist_ok=True)
    paths.log.unlink(missing_ok=True)
    in_tree = _runner(paths, tree)
    before = host_state.read(in_tree)
    controllers = cgroups.missing_controllers()
    # This is written before anything is changed, so that `stop` can clean up after a crash.
    record = Record(BOOT_ID.read_text(), tree.name, controllers, before, owner=only_for)
    record.write(paths.record)
    if bridges.DEFAULT not in before.links:
        with _deferred():
            replace(record, bridge=bridges.create(in_tree, paths.bridge)).write(paths.record)
            bridges.name_default(in_tree, paths.bridge)
    folders = cgroups.create(paths.cgroup, controllers)
    if paths.socket.parent != paths.run:
        paths.socket.parent.symlink_to(paths.run)
    with opened(built) as archive:
        config = archive.image.config["config"]
    command: list[str | Path] = ["sh", _script("enter.sh"), paths.log, *folders, "--"]
    command += ["setsid", "--fork", *UNSHARE, "--ipc", "--uts", "--cgroup"]
    command += ["sh", _script("boot.sh"), paths.machine, tree, version, *_shares(paths), "--"]
    command += [
        "env",
        "-i",
        *config.get("Env", []),
        *(f"{name}={value}" for name, value in settings().items()),
    ]
    command += [*config["Entrypoint"], "dockerd", "--host=unix:///var/run/docker.sock"]
    with _deferred():
        run(command)  # when this returns the engine is in its cgroup, and so counts as running


def _script(name: str) -> Path:
    return Path(__file__).with_name(name)


def _shares(paths: Paths) -> list[Path]:
    """Return pairs of a host path and the path in the engine where boot.sh mounts it."""
    tops = [path for path in sorted(Path("/").iterdir()) if path.is_dir() and path.name not in SYSTEM]
    pairs = [(top.resolve(), top) for top in tops]
    if not any(paths.folder.is_relative_to(top) for top in tops):
        pairs.append((paths.folder, paths.folder))
    pairs += [(paths.data, Path("/var/lib/docker")), (paths.run, Path("/run"))]
    if Path("/lib/modules").is_dir():
        pairs.append((Path("/lib/modules"), Path("/lib/modules")))
    for name in ("hosts", "resolv.conf"):
        if (source := _readable(name)) is not None:
            shutil.copyfile(source, paths.etc / name)
            pairs.append((paths.etc / name, Path("/etc", name)))
    return [path for pair in pairs for path in pair]


def _readable(name: str) -> Path | None:
    """Return the host's /etc/`name`, or systemd-resolved's own file where the host's names its local stub."""
    behind_stub = Path("/run/systemd/resolve/resolv.conf")
    if name == "resolv.conf" and behind_stub.exists():
        return behind_stub
    path = Path("/etc", name)
    return path if path.exists() else None


def _runner(paths: Paths, tree: Path) -> packet_filter.Run:
    """Return a function that runs a program of `tree` in the host's network namespace."""
    command: list[str | Path] = [*UNSHARE, "sh", _script("boot.sh"), paths.machine, tree, "none", "--"]
    command += ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]

    def run_in_tree(argv: list[str], data: bytes) -> bytes:
        paths.machine.mkdir(exist_ok=True)
        return run([*command, *argv], input=data).stdout

    return run_in_tree


def _wait(paths: Paths) -> Engine:
    """Wait until the engine answers, and return it."""
    deadline = time.monotonic() + START
    while time.monotonic() < deadline:
        if paths.socket.exists():
            with contextlib.suppress(EngineError):
                return connect(f"unix://{paths.socket}", f"{EMBEDDED}, just booted")
        if not cgroups.processes(paths.cgroup):
            last = (paths.log_tail(1) or ["it said nothing"])[0]
            raise EngineError(f"The engine ended while it started: {last}", f"Its log: {paths.log}")
        time.sleep(0.05)
    raise EngineError(f"The engine did not answer within {START:.0f} s.", f"Its log: {paths.log}")


def _stop(paths: Paths, seconds: float = STOP) -> None:
    """Stop the engine and restore the host to what the record says; Ctrl-C waits until that is done."""
    record = Record.load(paths.record)
    with _undisturbed():
        if record is not None and record.boot_id == BOOT_ID.read_text():
            if record.before.namespace != host_state.namespace():
                raise EngineError(
                    "The embedded engine was started in another network namespace.", "Stop it from there."
                )
            _end_processes(paths, seconds)
            known = bridges.Known(paths.bridge, record.bridge, paths.networks)
            host_state.restore(record.before, _runner(paths, paths.trees / record.tree), known)
            cgroups.remove(paths.cgroup, record.controllers)
        if paths.socket.parent != paths.run:
            paths.socket.parent.unlink(missing_ok=True)
        for folder in (paths.run, paths.etc, paths.machine):
            shutil.rmtree(folder, ignore_errors=True)
        paths.record.unlink(missing_ok=True)


@contextlib.contextmanager
def _deferred() -> Iterator[None]:
    """Delay Ctrl-C and SIGTERM until the block is done.

    In the middle of starting a program they would leave it running, and nobody would know of it.
    """
    came: list[int] = []

    def remember(number: int, _frame: FrameType | None) -> None:
        came.append(number)

    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = [signal.signal(number, remember) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, handlers, strict=True):
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Ignore Ctrl-C and SIGTERM in the block, here and in the programs that it runs."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, handlers, strict=True):
            signal.signal(number, handler)


def _end_processes(paths: Paths, seconds: float) -> None:
    """Ask the engine's first process to shut down, and kill all its processes after `seconds`."""
    for pid in filter(_is_first, cgroups.processes(paths.cgroup)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while cgroups.processes(paths.cgroup) and time.monotonic() < deadline:
        time.sleep(0.05)
    deadline = time.monotonic() + KILL
    while left := cgroups.processes(paths.cgroup):
        if time.monotonic() > deadline:
            raise DindkitError(f"These processes of the engine do not end: {left}.", "Run engine.stop again.")
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _is_first(pid: int) -> bool:
    """Return whether `pid` is the first process of a PID namespace directly below ours."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    ids = next(line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:"))
    return len(ids) == 2 and ids[1] == "1"
