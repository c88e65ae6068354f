"""A virtual machine that runs: QEMU as a process, its console, and the engine inside it."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import socket
import subprocess
import tarfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import requests

from dindkit import process
from dindkit.engine.discover import Engine, connect, tls_of
from dindkit.errors import EngineError
from dindkit.vm import qemu
from dindkit.vm.qemu import Hardware

#: Seconds within which the machine's engine must answer. Emulated, it takes a minute where this machine has
#: nothing else to do, and many times that where it has.
START, START_EMULATED = 120.0, 1800.0
#: Seconds within which the engine answers one request of ours while it starts.
PATIENCE = 20.0
#: Seconds within which the machine must end once it is told to.
STOP, STOP_EMULATED = 40.0, 120.0
#: What a client needs, in DOCKER_CERT_PATH; and the most bytes of all of it.
CERTIFICATES = ("ca.pem", "cert.pem", "key.pem")
LARGEST_CERTIFICATES = 1_000_000
#: What is in lines of the console that tell why a machine ends: of QEMU, kernel, machine.sh and entrypoint.
TELLING = ("qemu-system-", "Kernel panic", "machine: ", "dind: error: ")
#: MiB of memory, and the bytes that a machine's disk for its data root may take.
MEMORY = 2048
DATA = 64 << 30


@dataclass(frozen=True)
class Paths:
    """The files of a machine that runs in `folder`."""

    folder: Path

    @property
    def console(self) -> Path:
        """What the machine prints, and QEMU."""
        return self.folder / "console.log"

    @property
    def line(self) -> Path:
        """The start of the names of two pipes: see Hardware."""
        return self.folder / "line"

    @property
    def certificates(self) -> Path:
        """What a client of the machine's daemon needs."""
        return self.folder / "certificates"

    def cause(self) -> str:
        """Return the last line of the console that tells why a machine ends, or else the last line."""
        lines: list[str] = []
        with contextlib.suppress(OSError):
            text = self.console.read_text(errors="replace").replace("\r", "")
            lines = [line.strip() for line in text.splitlines() if line.strip()]
        told = [line for line in lines if any(word in line for word in TELLING)]
        return (told or lines or ["it said nothing"])[-1]


def free_port() -> int:
    """Return a TCP port of the loopback address that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(paths: Paths, hardware: Hardware, *, kvm: bool, lasting: bool = False) -> subprocess.Popen[bytes]:
    """Start the machine, which ends with this process unless it is `lasting`.

    Raises ToolMissingError without QEMU.
    """
    command = qemu.command(hardware, kvm=kvm)
    for end in ("in", "out"):
        os.mkfifo(f"{paths.line}.{end}", 0o600)
    # The certificates' key goes through these files: nobody else may open them.
    paths.console.touch(0o600)
    if not lasting:
        command = ["setpriv", "--pdeathsig", "KILL", "--", *command]
    return process.start(command, paths.console)


def await_engine(
    paths: Paths,
    port: int,
    is_running: Callable[[], bool],
    found_by: str,
    seconds: float,
    images: Sequence[str] = (),
) -> Engine:
    """Return the machine's engine as soon as it answers and has `images`, by their references.

    Raises EngineError with the last line that the machine said where that does not come to be.
    """
    deadline = time.monotonic() + seconds
    engine: Engine | None = None
    with open(f"{paths.line}.out", "rb", buffering=0, opener=_non_blocking) as line:
        data = b""
        while time.monotonic() < deadline:
            if not is_running():
                raise EngineError(f"The virtual machine ended: {paths.cause()}")
            data += _available(line)
            if len(data) > LARGEST_CERTIFICATES:
                raise EngineError("The virtual machine sends something else than its certificates.")
            if _keep_certificates(data, paths.certificates):
                with contextlib.suppress(EngineError):
                    engine = engine or connected(paths, port, found_by)
            with contextlib.suppress(requests.RequestException):
                if engine is not None and _has(engine, images):
                    return engine
            time.sleep(0.2)
    raise EngineError(f"The virtual machine's engine did not answer within {seconds:.0f} s: {paths.cause()}")


def connected(paths: Paths, port: int, found_by: str) -> Engine:
    """Return the engine of the machine in `paths`. Raises EngineError where it does not answer."""
    host = f"tcp://127.0.0.1:{port}"
    return connect(host, found_by, tls_of(paths.certificates), patience=PATIENCE)


def say_stop(paths: Paths) -> None:
    """Tell the machine to stop: its engine ends in order, and it turns itself off."""
    with contextlib.suppress(OSError), open(f"{paths.line}.in", "wb", opener=_non_blocking) as line:
        line.write(b"stop\n")


def _non_blocking(path: str, flags: int) -> int:
    # For reading and writing: a pipe that nobody has open can be opened so as well.
    del flags
    return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)


def _available(line: io.FileIO) -> bytes:
    return line.read(1 << 16) or b""


def _keep_certificates(data: bytes, folder: Path) -> bool:
    """Write the certificates of the tar `data` into `folder` once it is whole; tell whether it is."""
    if folder.exists():
        return True
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for member in archive:
                content = archive.extractfile(member)
                if content is not None:
                    found[member.name] = content.read()
    except tarfile.TarError:
        return False
    if set(found) != set(CERTIFICATES):
        return False
    half = folder.with_name("half")
    half.mkdir(0o700)
    for name in CERTIFICATES:
        (half / name).touch(0o600)
        (half / name).write_bytes(found[name])
    half.rename(folder)
    return True


def _has(engine: Engine, images: Sequence[str]) -> bool:
    return not images or set(images) <= {tag for one in engine.client.images.list() for tag in one.tags}


def keep_console(paths: Paths, target: Path) -> None:
    """Copy what the machine said to `target`, where it outlives the machine's folder."""
    with contextlib.suppress(OSError):
        shutil.copyfile(paths.console, target)
