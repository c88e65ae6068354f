"""Start and stop the engine of a virtual machine that lasts: for users without root, engine or namespaces."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from dindkit import owner, process
from dindkit.engine import virtual
from dindkit.engine.discover import VIRTUAL, Engine
from dindkit.engine.virtual import Record
from dindkit.errors import EngineError
from dindkit.files import locked
from dindkit.image.build_options import BuildOptions
from dindkit.image.built import Built
from dindkit.progress import Progress
from dindkit.project import Project, check_folders
from dindkit.vm import boot_files, kernel, machine, qemu
from dindkit.vm.boot_files import BootFiles
from dindkit.vm.machine import Paths
from dindkit.vm.running import KIND, Accelerator, console, hardware

#: The file in the machine's folder that outlives a stop: the disk with images, containers and volumes.
DATA = "data"


def start(project: Project, built: Built, progress: Progress) -> Engine:
    """Boot `built` as a machine that runs until it is stopped, or return the engine of the one that runs.

    Raises EngineError where it does not come up; nothing of it is left then but its data, and what it said.
    """
    architecture = built.inputs.lock.architecture
    accelerator = Accelerator.of(architecture)
    process.require(qemu.model(architecture).program)
    check_folders(project, progress)
    with _locked(project) as paths:
        record = virtual.read(project)
        if record is not None and _runs(record):
            return _engine(project, record)
        if record is not None:
            progress.note("The virtual machine ended without being stopped: clearing up first.")
        _clear(project)
        console(project).unlink(missing_ok=True)
        try:
            return _start(project, paths, built, accelerator, progress)
        except BaseException as error:
            machine.keep_console(paths, console(project))
            _end(project, 0, lambda: None)
            if isinstance(error, EngineError):
                raise EngineError(error.cause, f"What it said is in {console(project)}.") from error
            raise


def _start(
    project: Project, paths: Paths, built: Built, accelerator: Accelerator, progress: Progress
) -> Engine:
    architecture = built.inputs.lock.architecture
    options = BuildOptions(suite=built.inputs.lock.suite, architecture=architecture)
    with owner.workspace(project.state, KIND, 0o700) as folder:
        taken = kernel.fetch(project, options, folder / "package", progress)
    files, data = BootFiles(paths.folder), paths.folder / DATA
    boot_files.write(files, built, taken, progress)
    if not data.exists():
        boot_files.make_disk(data, machine.DATA)
    parts = hardware(files, paths, data, architecture)
    with progress.step("boot the machine") as step:
        step.detail = f"Linux {taken.release}, {accelerator}"
        running = machine.start(paths, parts, kvm=accelerator.kvm, lasting=True)
        try:
            record = Record(str(owner.of(running.pid)), f"tcp://127.0.0.1:{parts.port}")
            record.write(virtual.file(project))
            return machine.await_engine(
                paths, parts.port, lambda: running.poll() is None, VIRTUAL, accelerator.start
            )
        except BaseException:
            running.kill()
            running.wait()
            raise


def stop(project: Project, progress: Progress, *, purge: bool = False) -> None:
    """Stop the machine in order; with `purge`, delete its images and volumes too."""
    with _locked(project) as paths, progress.step("stop the machine"):
        seconds = machine.STOP if qemu.has_kvm(BuildOptions().target) else machine.STOP_EMULATED
        _end(project, seconds, lambda: machine.say_stop(paths))
        if purge:
            shutil.rmtree(paths.folder)


def status(project: Project) -> Engine:
    """Return the engine that runs; raises EngineError where it does not run or answer."""
    record = virtual.read(project)
    if record is None or not _runs(record):
        raise EngineError(
            "The virtual machine's engine does not run.", "Start it with: invoke engine.start --vm"
        )
    return _engine(project, record)


def exists(project: Project) -> bool:
    """Tell whether there is a machine of `project`, running or not."""
    return virtual.folder(project).exists()


def runs(project: Project) -> bool:
    """Tell whether the machine runs."""
    record = virtual.read(project)
    return record is not None and _runs(record)


@contextlib.contextmanager
def _locked(project: Project) -> Iterator[Paths]:
    """Let one start or stop at a time into the block."""
    with locked(project.state / "machine.lock"):
        folder = virtual.folder(project)
        folder.mkdir(mode=0o700, exist_ok=True)
        yield Paths(folder)


def _engine(project: Project, record: Record) -> Engine:
    return machine.connected(Paths(virtual.folder(project)), int(record.host.rpartition(":")[2]), VIRTUAL)


def _runs(record: Record) -> bool:
    maker = owner.parse(record.process)
    return maker is not None and not owner.is_abandoned(maker)


def _end(project: Project, seconds: float, tell: Callable[[], None]) -> None:
    """Tell the machine to end, kill it after `seconds`, and delete all of it but its data."""
    record = virtual.read(project)
    if record is not None and _runs(record):
        tell()
        if not _ended(record, seconds):
            maker = owner.parse(record.process)
            if maker is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(maker.process, signal.SIGKILL)
            _ended(record, machine.STOP)
    _clear(project)


def _ended(record: Record, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while _runs(record):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _clear(project: Project) -> None:
    for path in virtual.folder(project).iterdir():
        if path.name != DATA:
            owner.delete(Path(path))
