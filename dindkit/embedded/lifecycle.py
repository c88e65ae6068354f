"""Start and stop the embedded engine: the image as this host's Docker engine, where none is installed.

The built tree gets namespaces of its own (boot.sh), and runs its own entrypoint in them. What differs for
root and for an ordinary user is in by_root.py and by_user.py.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from dindkit.embedded import by_root, by_user, host_state
from dindkit.embedded.paths import Paths, Record
from dindkit.engine import load
from dindkit.engine.discover import EMBEDDED, Engine, connect
from dindkit.errors import DindkitError, EngineError
from dindkit.files import locked, naming_a_full_disk
from dindkit.image.built import Built
from dindkit.interrupts import undisturbed
from dindkit.process import require
from dindkit.progress import Progress
from dindkit.project import Project, check_folders

#: Seconds within which the daemon must answer, and within which it must stop.
START = 90.0
STOP = 40.0
#: Seconds within which killed processes must have ended.
KILL = 10.0

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class _Way(Protocol):
    """What root and an ordinary user do in different ways."""

    def require(self, progress: Progress) -> None: ...
    def lay_out(self, paths: Paths, built: Built, progress: Progress) -> Path: ...
    def link_layers(self, paths: Paths, built: Built, tree: Path, progress: Progress) -> None: ...
    def boot(self, paths: Paths, built: Built, tree: Path, record: Record, cgroup2: bool) -> None: ...
    def require_here(self, record: Record) -> None: ...
    def processes(self, paths: Paths) -> list[int]: ...
    def restore(self, paths: Paths, record: Record) -> None: ...
    def delete(self, folder: Path) -> None: ...


def _way(record: Record | None = None) -> _Way:
    """Return the way of this process; or that of the engine of `record`, which root may stop for its user."""
    if record is not None and record.before is None:
        return by_user
    return by_root if os.geteuid() == 0 else by_user


def start(
    project: Project, built: Built, progress: Progress, cgroup2: bool = False, only_for: str = ""
) -> Engine:
    """Boot `built` as an engine, or return the one that runs already.

    Where it has never run before, it begins with that image. It runs until it is stopped. With `only_for` (an
    owner.Owner as text) it runs for that process alone. With `cgroup2` it runs on cgroup v2 where the host's
    programs use v1 (the host must mount v2 somewhere too); it is meant for tests. Raises EngineError where
    the kernel or the host lacks something, or where the daemon does not come up; nothing of it is left then.
    """
    require("mount")  # a package of its own, which small images are without: boot.sh would end at its first
    way = _way()
    way.require(progress)
    check_folders(project, progress)
    paths = Paths(project)
    with _locked(paths):
        _delete_remains(paths)
        record = Record.load(paths.record)
        if record is not None:
            with contextlib.suppress(EngineError):
                engine = connect(f"unix://{paths.socket}", EMBEDDED)
                _finish(paths, engine, built, progress)
                if record.abandoned or (record.owner and not only_for):
                    replace(record, owner=only_for).write(paths.record)
                return engine
            progress.note("The embedded engine ended without being stopped: clearing up first.")
        with naming_a_full_disk(project.state, "DINDKIT_STATE"):
            tree = way.lay_out(paths, built, progress)
        if record is not None:
            _stop(paths)  # by the programs of a tree
        is_new = not paths.data.exists()
        try:
            with naming_a_full_disk(project.state, "DINDKIT_STATE"):
                way.link_layers(paths, built, tree, progress)
            with progress.step("boot the engine"):
                _boot(paths, built, tree, cgroup2, only_for)
                engine = _wait(paths)
            _finish(paths, engine, built, progress)
        except BaseException:
            for line in paths.log_tail():
                progress.note(f"engine: {line}")
            _stop(paths, seconds=0)
            if is_new:
                way.delete(paths.data)
                paths.begun.unlink(missing_ok=True)
            raise
        for other in paths.trees.iterdir():
            if other != tree:
                way.delete(other)
        return engine


def _finish(paths: Paths, engine: Engine, built: Built, progress: Progress) -> None:
    """Load the image of an engine that has but its layers: this start began so, or one that was killed."""
    if paths.begun.exists():
        load.load(engine, built, progress, known=built.layers)
        paths.begun.unlink(missing_ok=True)


def stop(project: Project, progress: Progress, purge: bool = False) -> None:
    """Stop the engine and undo what it changed on the host; with `purge`, delete its images and volumes too.

    This also cleans up after an engine that was killed, or that ended with the host.
    """
    paths = Paths(project)
    if not paths.folder.exists():
        sweep(project)
        progress.note("The embedded engine does not run, and has no data.")
        return
    with _locked(paths), progress.step("stop the engine"):
        _delete_remains(paths)
        _stop(paths)
        if purge:
            # Half of a data root would be taken for one by the next start, should this be killed meanwhile.
            paths.folder.rename(paths.deleted)
            _delete_remains(paths)


def sweep(project: Project) -> None:
    """Delete what a killed `stop` with `purge` has left. Raises EngineError where this user may not."""
    paths = Paths(project)
    if paths.deleted.exists():
        with locked(paths.lock):
            _delete_remains(paths)


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
    record = Record.load(Paths(project).record)
    if record is None or not record.abandoned:
        return False
    if record.before is None:
        return os.geteuid() != 0
    return os.geteuid() == 0 and record.before.namespace == host_state.namespace()


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


def _delete_remains(paths: Paths) -> None:
    if paths.deleted.exists():
        _way().delete(paths.deleted)
        if paths.deleted.exists():
            raise EngineError(f"{paths.deleted} cannot be deleted by this user.", "Who owns it? Run: ls -la")


@contextlib.contextmanager
def _locked(paths: Paths) -> Iterator[None]:
    """Let one start or stop at a time into the block."""
    with locked(paths.lock):
        paths.folder.mkdir(exist_ok=True)
        yield


def _boot(paths: Paths, built: Built, tree: Path, cgroup2: bool, only_for: str) -> None:
    way = _way()
    way.delete(paths.run)
    for folder in (paths.data, paths.run, paths.etc, paths.machine):
        folder.mkdir(exist_ok=True)
    paths.log.unlink(missing_ok=True)
    way.boot(paths, built, tree, Record(BOOT_ID.read_text(), tree.name, owner=only_for), cgroup2)


def _wait(paths: Paths) -> Engine:
    """Wait until the engine answers, and return it."""
    deadline = time.monotonic() + START
    is_there = True
    while time.monotonic() < deadline:
        if paths.socket.exists():
            with contextlib.suppress(EngineError):
                return connect(f"unix://{paths.socket}", f"{EMBEDDED}, just booted")
        was_there, is_there = is_there, bool(_way().processes(paths))
        if not (was_there or is_there):  # twice: in the middle of execve(2) a process has no command line
            last = (paths.log_tail(1) or ["it said nothing"])[0]
            raise EngineError(f"The engine ended while it started: {last}", f"Its log: {paths.log}")
        time.sleep(0.05)
    raise EngineError(f"The engine did not answer within {START:.0f} s.", f"Its log: {paths.log}")


def _stop(paths: Paths, seconds: float = STOP) -> None:
    """Stop the engine and restore the host to what the record says; Ctrl-C waits until that is done."""
    record = Record.load(paths.record)
    way = _way(record)
    with undisturbed():
        if record is not None and record.boot_id == BOOT_ID.read_text():
            way.require_here(record)
            _end_processes(way, paths, seconds)
            way.restore(paths, record)
        if paths.socket.parent != paths.run:
            paths.socket.parent.unlink(missing_ok=True)
        for folder in (paths.run, paths.etc, paths.machine):
            way.delete(folder)
        paths.record.unlink(missing_ok=True)


def _end_processes(way: _Way, paths: Paths, seconds: float) -> None:
    """Ask the engine's first process to shut down, and kill all its processes after `seconds`."""
    for pid in filter(_is_first, way.processes(paths)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while way.processes(paths) and time.monotonic() < deadline:
        time.sleep(0.05)
    deadline = time.monotonic() + KILL
    while left := way.processes(paths):
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
