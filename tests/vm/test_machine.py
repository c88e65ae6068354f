"""A machine on real QEMU with Debian's kernel, up to where the image begins: how it ends, and with whom."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dindkit import process
from dindkit.engine.discover import find
from dindkit.engine.virtual import Record
from dindkit.errors import DindkitError, EngineError, ToolMissingError
from dindkit.image.build import Built
from dindkit.image.build_options import BuildOptions
from dindkit.progress import Progress
from dindkit.project import Project
from dindkit.vm import boot_files, kernel, lifecycle, machine, qemu, running
from dindkit.vm.boot_files import BootFiles
from dindkit.vm.initramfs import NoBusyboxError
from dindkit.vm.machine import Paths
from dindkit.vm.qemu import Hardware
from tests.support.local_project import LocalProject, lent

pytestmark = pytest.mark.archive

ARCHITECTURE = BuildOptions().target
#: Seconds within which the kernel must have found out that there is nothing to start, on a busy machine.
PATIENCE = 300
#: Starts the machine whose folders and architecture are given, says its process id, and waits to be killed.
STARTER = """
import sys, time
from pathlib import Path
from dindkit.vm import machine, running
from dindkit.vm.boot_files import BootFiles
boot, paths = BootFiles(Path(sys.argv[1])), machine.Paths(Path(sys.argv[2]))
parts = running.hardware(boot, paths, boot.folder / "data", sys.argv[3])
print(machine.start(paths, parts, kvm=False).pid, flush=True)
time.sleep(1000)
"""


@dataclass(frozen=True)
class Machine:
    """A machine that does not run yet."""

    boot: BootFiles
    paths: Paths
    hardware: Hardware


@pytest.fixture(scope="module")
def boot(
    shared_small_project: LocalProject, project: Project, tmp_path_factory: pytest.TempPathFactory
) -> BootFiles:
    """Make once the files of a machine whose image has a busybox that is no program."""
    folder, quiet = tmp_path_factory.mktemp("boot"), Progress(io.StringIO())
    with lent(shared_small_project) as small:
        busybox = small.project.images / "app/rootfs/usr/bin/busybox"
        busybox.parent.mkdir(parents=True)
        busybox.write_text("#!/no/such/program\n")
        options = BuildOptions(architecture=ARCHITECTURE)
        taken = kernel.fetch(project, options, folder / "packages", quiet)
        boot_files.write(BootFiles(folder), small.build(), taken, quiet)
    boot_files.make_disk(folder / "data", 1 << 30)
    return BootFiles(folder)


@pytest.fixture
def broken(boot: BootFiles, tmp_path: Path) -> Machine:
    paths = Paths(tmp_path)
    return Machine(boot, paths, running.hardware(boot, paths, boot.folder / "data", ARCHITECTURE))


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.fixture
def started(broken: Machine) -> Iterator[subprocess.Popen[bytes]]:
    made = machine.start(broken.paths, broken.hardware, kvm=False)
    yield made
    made.kill()
    made.wait()


def test_a_machine_that_ends_is_named_with_its_last_word(
    broken: Machine, started: subprocess.Popen[bytes]
) -> None:
    with pytest.raises(EngineError, match=r"The virtual machine ended: .*Kernel panic"):
        machine.await_engine(
            broken.paths, broken.hardware.port, lambda: started.poll() is None, "a test", PATIENCE
        )
    assert started.poll() == 0


def test_a_machine_gets_no_more_than_its_time(broken: Machine, started: subprocess.Popen[bytes]) -> None:
    with pytest.raises(EngineError, match="did not answer within 0 s"):
        machine.await_engine(
            broken.paths, broken.hardware.port, lambda: started.poll() is None, "a test", 0.1
        )


def test_qemu_ends_with_the_process_that_started_it(broken: Machine) -> None:
    folders = (str(broken.boot.folder), str(broken.paths.folder))
    command = [sys.executable, "-c", STARTER, *folders, ARCHITECTURE]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        assert lives(pid)
        starter.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while lives(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not lives(pid)


def test_qemu_that_is_missing_is_one_sentence(
    project: Project, base: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(process, "SBIN", str(tmp_path))
    program = qemu.model(ARCHITECTURE).program
    state = tmp_path / "state"
    state.mkdir()
    mine = Project(project.root, state, project.cache)

    def smoke() -> None:
        with running.running_machine(mine, base, Progress(), loaded={}, files={}):
            pass

    def start() -> None:
        lifecycle.start(mine, base, Progress())

    for one in (smoke, start):
        with pytest.raises(ToolMissingError) as caught:
            one()
        package = process.PACKAGE_OF[program]
        assert str(caught.value) == f"{program} is not installed. Run: apt-get install {package}"
    assert list(state.iterdir()) == []


def test_an_image_without_busybox_cannot_begin(project: Project, base: Built, tmp_path: Path) -> None:
    options = BuildOptions(architecture=ARCHITECTURE)
    taken = kernel.fetch(project, options, tmp_path / "package", Progress(io.StringIO()))
    with pytest.raises(NoBusyboxError):
        boot_files.write(BootFiles(tmp_path), base, taken, Progress(io.StringIO()))


def test_an_architecture_without_a_machine_is_named() -> None:
    with pytest.raises(DindkitError, match="No virtual machine is known here for s390x"):
        qemu.model("s390x")


@pytest.mark.parametrize("flags", ["flags : fpu hypervisor bmi2", ""])
def test_kvm_needs_the_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str) -> None:
    monkeypatch.setattr(qemu, "CPUINFO", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text(f"processor : 0\n{flags}\n")
    assert not qemu.has_kvm("amd64")


def test_kvm_is_for_the_machines_own_architecture() -> None:
    assert not qemu.has_kvm({"amd64": "arm64", "arm64": "amd64"}[ARCHITECTURE])


def test_a_machine_that_has_ended_is_no_engine(project: Project, tmp_path: Path) -> None:
    mine = Project(project.root, tmp_path, project.cache)
    (tmp_path / "machine").mkdir()
    with subprocess.Popen(["true"]) as ended:
        pass
    Record(f"0.0.0.{ended.pid:x}.1", "tcp://127.0.0.1:1").write(tmp_path / "machine/record.json")
    assert find(mine) is None
    with pytest.raises(EngineError, match="does not run"):
        lifecycle.status(mine)


def test_a_record_of_another_version_is_named(project: Project, tmp_path: Path) -> None:
    (tmp_path / "machine").mkdir()
    (tmp_path / "machine/record.json").write_text('{"pid": 1}')
    with pytest.raises(EngineError, match="Another version of dindkit"):
        lifecycle.status(Project(project.root, tmp_path, project.cache))


def test_only_its_user_reads_what_a_machine_has(broken: Machine, started: subprocess.Popen[bytes]) -> None:
    assert started.poll() is None
    for path in (broken.paths.console, Path(f"{broken.paths.line}.in"), Path(f"{broken.paths.line}.out")):
        assert path.stat().st_mode & 0o077 == 0
