"""A machine for the time of a command, with images in its engine: nothing of it is left afterwards."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dindkit import owner, process
from dindkit.engine.discover import Engine
from dindkit.errors import EngineError
from dindkit.image.build_options import BuildOptions
from dindkit.image.built import Built
from dindkit.progress import Progress
from dindkit.project import Project
from dindkit.vm import boot_files, kernel, machine, qemu
from dindkit.vm.boot_files import BootFiles
from dindkit.vm.machine import Paths
from dindkit.vm.qemu import Disk, Hardware

#: The kind of folder that a machine has for the time of a command: see owner.
KIND = "vm"
#: Where the machine has the files that it is given, relative to its root.
GIVEN = "var/lib/dindkit"
#: The most processors of a machine.
CPUS = 4


@dataclass(frozen=True)
class Accelerator:
    """Whether KVM runs a machine, and the seconds that it gets to start and to stop."""

    kvm: bool

    @classmethod
    def of(cls, architecture: str) -> Accelerator:
        """Return what this machine and user have for `architecture`."""
        return cls(qemu.has_kvm(architecture))

    @property
    def start(self) -> float:
        """Seconds to start."""
        return machine.START if self.kvm else machine.START_EMULATED

    @property
    def stop(self) -> float:
        """Seconds to stop."""
        return machine.STOP if self.kvm else machine.STOP_EMULATED

    def __str__(self) -> str:
        return "with KVM" if self.kvm else "emulated"


def console(project: Project) -> Path:
    """Return where the console of a machine that failed is kept."""
    return project.state / "vm-console.log"


def hardware(files: BootFiles, paths: Paths, data: Path, architecture: str) -> Hardware:
    """Return the machine of these files."""
    return Hardware(
        architecture,
        kernel=files.kernel,
        initramfs=files.initramfs,
        disks=(Disk("root", files.root, read_only=True), Disk("data", data)),
        memory=machine.MEMORY,
        cpus=_cpus(architecture),
        port=machine.free_port(),
        console=paths.console,
        line=paths.line,
    )


def _cpus(architecture: str) -> int:
    """Return how many processors a machine gets.

    One on amd64 without KVM: under QEMU 7.2 one processor may run what another is just patching in the
    kernel, and Linux 7.2 panics by that.
    """
    if architecture == "amd64" and not qemu.has_kvm(architecture):
        return 1
    return min(os.cpu_count() or 1, CPUS)


@contextlib.contextmanager
def running_machine(
    project: Project,
    built: Built,
    progress: Progress,
    *,
    loaded: Mapping[str, Built],
    files: Mapping[str, Path],
) -> Iterator[Engine]:
    """Boot `built` as a machine, yield its engine, and end it.

    The engine has the images of `loaded`, and the machine the archives of them and the `files`, each below
    GIVEN under its key. Raises EngineError where the machine does not come up; what it said is in `console`
    then, as it is where the block fails.
    """
    architecture = built.inputs.lock.architecture
    found, accelerator = qemu.model(architecture), Accelerator.of(architecture)
    process.require(found.program)
    options = BuildOptions(suite=built.inputs.lock.suite, architecture=architecture)
    console(project).unlink(missing_ok=True)
    with owner.workspace(project.state, KIND, 0o700) as folder:
        taken = kernel.fetch(project, options, folder / "package", progress)
        boot, paths = BootFiles(folder), Paths(folder)
        archives = {name: one.archive for name, one in loaded.items()}
        boot_files.write(
            boot,
            built,
            taken,
            progress,
            added={f"{GIVEN}/{name}": path for name, path in {**archives, **files}.items()},
            environment={"DIND_PRELOAD": " ".join(f"/{GIVEN}/{name}" for name in archives)},
        )
        data = folder / "data"
        boot_files.make_disk(data, machine.DATA)
        parts = hardware(boot, paths, data, architecture)
        running = machine.start(paths, parts, kvm=accelerator.kvm)
        try:
            yield _await(paths, parts.port, running, accelerator, taken.release, loaded, progress)
        except Exception as error:
            machine.keep_console(paths, console(project))
            ended = running.poll() is not None
            why = f"The virtual machine ended: {paths.cause()}" if ended else str(error)
            if ended or isinstance(error, EngineError):
                raise EngineError(why, f"What it said is in {console(project)}.") from error
            raise
        finally:
            running.kill()
            running.wait()


def _await(
    paths: Paths,
    port: int,
    running: subprocess.Popen[bytes],
    accelerator: Accelerator,
    release: str,
    loaded: Mapping[str, Built],
    progress: Progress,
) -> Engine:
    with progress.step("boot the machine") as step:
        step.detail = f"Linux {release}, {accelerator}"
        return machine.await_engine(
            paths,
            port,
            lambda: running.poll() is None,
            f"a virtual machine, {accelerator}",
            accelerator.start,
            [one.reference for one in loaded.values()],
        )
