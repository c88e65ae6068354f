"""The image as this host's Docker engine, for machines that have none.

The built tree gets mount, PID, IPC, UTS and cgroup namespaces of its own (boot.sh), shares the host's
network, and runs its own entrypoint. What it changes on the host is recorded before it starts, and undone
when it stops.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from dindkit.engine import cgroups, footprint
from dindkit.engine.discover import EMBEDDED, Engine, connect
from dindkit.engine.place import Place, Record
from dindkit.engine.settings import settings
from dindkit.errors import DindkitError, EngineError
from dindkit.image.archive import extract, open_archive
from dindkit.image.build import Built
from dindkit.process import run
from dindkit.progress import Progress
from dindkit.project import Project

#: Seconds allowed for the daemon to answer, and for it to stop its containers and itself.
START = 90.0
STOP = 40.0
#: Seconds allowed for killed processes to be gone.
KILL = 10.0

#: Top-level folders that belong to an operating system. All others of the host are its users': they are
#: shared with the machine at their own place, so that a bind mount finds the same files there.
SYSTEM = {"bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "lost+found", "proc", "run", "sbin"}
SYSTEM |= {"sys", "usr", "var"}

#: Mounts made on the host later reach the machine, and never the other way round.
UNSHARE = ("unshare", "--mount", "--propagation=slave", "--pid", "--fork", "--kill-child")

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def start(project: Project, built: Built, progress: Progress, cgroup2: bool = False) -> Engine:
    """Boot `built` as an engine, or return the one that runs already.

    With `cgroup2` it runs on cgroup v2 where the host's programs use v1 (the host must mount v2 somewhere
    too); it is meant for tests. Raises EngineError without root, where the kernel or the host lacks
    something, or where the daemon does not come up; nothing of it is left then.
    """
    _require_root()
    place = Place(project)
    with _alone(place):
        if Record.load(place.record) is not None:
            with contextlib.suppress(EngineError):
                return connect(f"unix://{place.socket}", EMBEDDED)
            progress.note("The embedded engine ended without being stopped: clearing up first.")
            _stop(place)
        tree = _lay_tree(place, built, progress)
        try:
            with progress.step("boot the engine"):
                _boot(place, built, tree, cgroup2)
                engine = _wait(place)
        except BaseException:
            for line in place.last_words():
                progress.note(f"engine: {line}")
            _stop(place, patience=0)
            raise
        for other in place.trees.iterdir():
            if other != tree:
                shutil.rmtree(other)
        return engine


def stop(project: Project, progress: Progress, purge: bool = False) -> None:
    """Stop the engine and undo what it changed on the host; with `purge`, delete its images and volumes too.

    An engine that was killed, or that ended with the host, is cleared up after in the same way.
    """
    _require_root()
    place = Place(project)
    if not place.folder.exists():
        progress.note("The embedded engine does not run, and has no data.")
        return
    with _alone(place), progress.step("stop the engine"):
        _stop(place)
        if purge:
            shutil.rmtree(place.folder)


def status(project: Project) -> Engine:
    """Return the running engine; raises EngineError where it does not run."""
    place = Place(project)
    try:
        return connect(f"unix://{place.socket}", EMBEDDED)
    except EngineError as error:
        if place.record.exists():
            raise EngineError(
                f"The embedded engine was started, but does not answer: its log is {place.log}.",
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
def _alone(place: Place) -> Iterator[None]:
    """Keep a second start or stop waiting until this one is done."""
    place.lock.parent.mkdir(parents=True, exist_ok=True)
    with place.lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        place.folder.mkdir(exist_ok=True)
        yield


def _lay_tree(place: Place, built: Built, progress: Progress) -> Path:
    tree = place.trees / built.image_id.removeprefix("sha256:")
    if not tree.exists():
        partial = place.trees / "partial"  # nobody else's: we hold the lock
        shutil.rmtree(partial, ignore_errors=True)
        try:
            with progress.step("lay out the engine's tree"):
                partial.mkdir(parents=True)
                extract(built.archive, partial)
                partial.rename(tree)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return tree


def _boot(place: Place, built: Built, tree: Path, cgroup2: bool) -> None:
    version = "2" if cgroup2 else cgroups.version()
    shutil.rmtree(place.run, ignore_errors=True)
    for folder in (place.data, place.run, place.etc, place.machine):
        folder.mkdir(exist_ok=True)
    place.log.unlink(missing_ok=True)
    before = footprint.record(lambda argv, data: _inside(place, tree, argv, data))
    controllers = cgroups.missing_controllers()
    # Recorded before anything is changed, so that a crash at any later moment can be cleared up after.
    Record(BOOT_ID.read_text(), tree.name, controllers, before).write(place.record)
    folders = cgroups.create(place.cgroup, controllers)
    if place.socket.parent != place.run:
        place.socket.parent.symlink_to(place.run)
    with open_archive(built.archive) as archive:
        config = archive.image.config["config"]
    command: list[str | Path] = ["sh", _script("enter.sh"), place.log, *folders, "--"]
    command += ["setsid", "--fork", *UNSHARE, "--ipc", "--uts", "--cgroup"]
    command += ["sh", _script("boot.sh"), place.machine, tree, version, *_shares(place), "--"]
    command += [
        "env",
        "-i",
        *config.get("Env", []),
        *(f"{name}={value}" for name, value in settings().items()),
    ]
    command += [*config["Entrypoint"], "dockerd", "--host=unix:///var/run/docker.sock"]
    with _deferred():
        run(command)  # once it is back, the engine is in its cgroup and counts as running


def _script(name: str) -> Path:
    return Path(__file__).with_name(name)


def _shares(place: Place) -> list[Path]:
    """Return the pairs of host path and place in the machine that boot.sh mounts."""
    tops = [path for path in sorted(Path("/").iterdir()) if path.is_dir() and path.name not in SYSTEM]
    pairs = [(top.resolve(), top) for top in tops]
    if not any(place.folder.is_relative_to(top) for top in tops):
        pairs.append((place.folder, place.folder))
    pairs += [(place.data, Path("/var/lib/docker")), (place.run, Path("/run"))]
    if Path("/lib/modules").is_dir():
        pairs.append((Path("/lib/modules"), Path("/lib/modules")))
    for name in ("hosts", "resolv.conf"):
        if (source := _readable(name)) is not None:
            shutil.copyfile(source, place.etc / name)
            pairs.append((place.etc / name, Path("/etc", name)))
    return [path for pair in pairs for path in pair]


def _readable(name: str) -> Path | None:
    """Return the host's /etc/`name`, or what systemd-resolved knows behind its local stub."""
    behind_stub = Path("/run/systemd/resolve/resolv.conf")
    if name == "resolv.conf" and behind_stub.exists():
        return behind_stub
    path = Path("/etc", name)
    return path if path.exists() else None


def _inside(place: Place, tree: Path, argv: list[str], data: bytes) -> bytes:
    """Run a program of the tree in the host's network namespace; the tree stays as it is."""
    place.machine.mkdir(exist_ok=True)
    command: list[str | Path] = [*UNSHARE, "sh", _script("boot.sh"), place.machine, tree, "none", "--"]
    command += ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", *argv]
    return run(command, input=data).stdout


def _wait(place: Place) -> Engine:
    """Return the engine as soon as it answers."""
    deadline = time.monotonic() + START
    while time.monotonic() < deadline:
        if place.socket.exists():
            with contextlib.suppress(EngineError):
                return connect(f"unix://{place.socket}", f"{EMBEDDED}, just booted")
        if not cgroups.processes(place.cgroup):
            last = (place.last_words(1) or ["it said nothing"])[0]
            raise EngineError(f"The engine ended while it started: {last}", f"Its log: {place.log}")
        time.sleep(0.05)
    raise EngineError(f"The engine did not answer within {START:.0f} s.", f"Its log: {place.log}")


def _stop(place: Place, patience: float = STOP) -> None:
    """Bring the host back to what the record says; Ctrl-C waits until that is done."""
    record = Record.load(place.record)
    with _undisturbed():
        if record is not None and record.boot_id == BOOT_ID.read_text():
            if record.before.namespace != footprint.namespace():
                raise EngineError(
                    "The embedded engine was started in another network namespace.", "Stop it from there."
                )
            _end_processes(place, patience)
            tree = place.trees / record.tree
            footprint.undo(
                record.before,
                lambda argv, data: _inside(place, tree, argv, data),
                place.data / "network/files/local-kv.db",
            )
            cgroups.remove(place.cgroup, record.controllers)
        if place.socket.parent != place.run:
            place.socket.parent.unlink(missing_ok=True)
        for folder in (place.run, place.etc, place.machine):
            shutil.rmtree(folder, ignore_errors=True)
        place.record.unlink(missing_ok=True)


@contextlib.contextmanager
def _deferred() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back until the block is done.

    One that comes while a program is being started would leave that program running and unknown.
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
    """Ignore Ctrl-C and SIGTERM, here and in the programs that are run meanwhile."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, handlers, strict=True):
            signal.signal(number, handler)


def _end_processes(place: Place, patience: float) -> None:
    """Ask the machine's first process to end it in order, and kill all after `patience` seconds."""
    for pid in filter(_is_first, cgroups.processes(place.cgroup)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + patience
    while cgroups.processes(place.cgroup) and time.monotonic() < deadline:
        time.sleep(0.05)
    deadline = time.monotonic() + KILL
    while left := cgroups.processes(place.cgroup):
        if time.monotonic() > deadline:
            raise DindkitError(f"These processes of the engine do not end: {left}.", "Run engine.stop again.")
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _is_first(pid: int) -> bool:
    """Whether `pid` is the first process of a PID namespace right below ours."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    ids = next(line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:"))
    return len(ids) == 2 and ids[1] == "1"
