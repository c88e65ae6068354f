"""`invoke bench`: the seconds until the image's daemon answers, and until it stops."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from docker.models.containers import Container

from dindkit import defaults, leftovers, owner
from dindkit.embedded.running import running_engine
from dindkit.engine import load
from dindkit.engine.discover import Engine
from dindkit.engine.exec_command import exec_command
from dindkit.errors import DindkitError, EngineError
from dindkit.image.build import BuildOptions, Built, build
from dindkit.progress import Progress
from dindkit.project import Project

#: What this module makes in an engine has this kind in its label: see leftovers.
KIND = "bench"
#: Seconds within which a daemon must be ready.
READY = 120.0
#: Seconds that `docker stop` allows, well above what is measured.
STOP = 60
#: The folder with the daemon's socket, as the container sees it.
SOCKET_FOLDER = "/run/bench"

#: A nested container that does not end when it is asked to.
STUBBORN = ["bash", "-c", "trap '' TERM; while :; do sleep 1; done"]
NESTED = 3
STOPS = 3

#: How bare dockerd and the image are started: entrypoint, arguments and environment.
BARE: Mapping[str, Any] = {
    "entrypoint": ["dockerd"],
    "command": [f"--host=unix://{SOCKET_FOLDER}/docker.sock"],
}
TLS: Mapping[str, Any] = {"environment": {"DOCKER_HOST": f"unix://{SOCKET_FOLDER}/docker.sock"}}
PLAIN: Mapping[str, Any] = {"environment": {**TLS["environment"], "DOCKER_TLS_CERTDIR": ""}}


@dataclass(frozen=True)
class Pairs:
    """Seconds from the request for a container to the answer to `/_ping`, one pair per round."""

    bare: tuple[float, ...]
    image: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """The median of the rounds' ratios: a disturbance that lasts slows down both of a pair."""
        return statistics.median(image / bare for bare, image in zip(self.bare, self.image, strict=True))


@dataclass(frozen=True)
class Stops:
    """Seconds that `docker stop` took, with nested containers that ignore SIGTERM, and exit codes."""

    seconds: tuple[float, ...]
    exit_codes: tuple[int, ...]


@dataclass(frozen=True)
class Result:
    """What one run has measured."""

    tls: Pairs
    plain: Pairs
    stop: Stops

    def figures(self) -> dict[str, Any]:
        """Return every single figure, and the ratios, as bench-1.json describes it."""
        found = asdict(self)
        found["tls"]["ratio"], found["plain"]["ratio"] = self.tls.ratio, self.plain.ratio
        return {"what": "boot", **found}

    def as_text(self) -> str:
        """Render medians, for people."""
        middle = statistics.median
        rows = [
            f"{name:<12} {middle(pairs.bare):13.2f} s {middle(pairs.image):10.2f} s {pairs.ratio:8.2f}"
            for name, pairs in (("TLS", self.tls), ("no TLS", self.plain))
        ]
        codes = ", ".join(str(code) for code in sorted(set(self.stop.exit_codes)))
        return "\n".join(
            [
                f"ready, median of {len(self.tls.bare)} pairs: from `docker run` to /_ping",
                f"{'':<12} {'bare dockerd':>15} {'this image':>12} {'ratio':>8}",
                *rows,
                f"stop with {NESTED} nested containers that ignore SIGTERM: "
                f"{middle(self.stop.seconds):.2f} s, exit code {codes}",
            ]
        )


def boot(project: Project, progress: Progress, pairs: int = 5, suite: str = defaults.SUITE) -> Result:
    """Measure, on the engine that answers or on the image itself booted as one.

    The engine must run on this machine: the sockets lie in a folder that it shares with this process. Raises
    DindkitError for fewer than one pair, EngineError where a daemon does not get ready.
    """
    if pairs < 1:
        raise DindkitError(f"{pairs} pairs cannot be measured.", "Ask for one or more: --pairs=5")
    built = build(project, BuildOptions(suite=suite), progress)
    base = build(project, BuildOptions(image="base", suite=suite), progress)
    # In state, because an engine in a machine of its own may not see /tmp.
    with running_engine(project, progress, built) as engine, owner.workspace(project.state, KIND) as folder:
        leftovers.sweep(engine.client, progress, KIND)
        load.load(engine, built, progress)
        trial = _Trial(engine, built.reference, folder)
        with progress.step("boot pairs", total=pairs) as step:
            rounds = []
            for _ in range(pairs):
                rounds.append([trial.seconds(kind) for kind in (BARE, TLS, BARE, PLAIN)])
                step.advance()
        with progress.step("stop"):
            stop = trial.stops(base)
    bare1, tls, bare2, plain = (tuple(column) for column in zip(*rounds, strict=True))
    return Result(Pairs(bare1, tls), Pairs(bare2, plain), stop)


@dataclass(frozen=True)
class _Trial:
    engine: Engine
    image: str
    folder: Path

    def seconds(self, kind: Mapping[str, Any]) -> float:
        """Start a daemon on an empty data root, and return the seconds until it answered."""
        with self._running(kind) as (_, seconds):
            return seconds

    def stops(self, base: Built) -> Stops:
        """Stop a daemon with stubborn containers in it, several times."""
        seconds, codes = [], []
        with self._running(TLS) as (container, _):
            reference = self._load(container, base)
            for _ in range(STOPS):
                for _ in range(NESTED):
                    self._call(container, "docker", "run", "--detach", "--rm", reference, *STUBBORN)
                started = time.monotonic()
                container.stop(timeout=STOP)
                seconds.append(time.monotonic() - started)
                container.reload()
                codes.append(int(container.attrs["State"]["ExitCode"]))
                container.start()
                _wait(container, self._socket(container))
        return Stops(tuple(seconds), tuple(codes))

    @contextlib.contextmanager
    def _running(self, kind: Mapping[str, Any]) -> Iterator[tuple[Container, float]]:
        token = secrets.token_hex(3)
        (self.folder / token).mkdir()
        started = time.monotonic()
        container = self.engine.client.containers.run(
            self.image,
            detach=True,
            privileged=True,
            name=f"dindkit-bench-{token}",
            labels=leftovers.labels(KIND),
            volumes={str(self.folder / token): {"bind": SOCKET_FOLDER, "mode": "rw"}},
            **kind,
        )
        try:
            _wait(container, self._socket(container))
            yield container, time.monotonic() - started
        finally:
            container.remove(force=True, v=True)

    def _socket(self, container: Container) -> Path:
        return self.folder / str(container.name)[-6:] / "docker.sock"

    def _load(self, container: Container, base: Built) -> str:
        """Load `base` into the daemon in `container`; return its reference there."""
        archive = self._socket(container).with_name("base.tar")
        shutil.copyfile(base.archive, archive)
        self._call(container, "docker", "load", "--quiet", "--input", f"{SOCKET_FOLDER}/{archive.name}")
        return base.reference

    @staticmethod
    def _call(container: Container, *argv: str) -> None:
        environment = {"DOCKER_HOST": f"unix://{SOCKET_FOLDER}/docker.sock"}
        done = exec_command(container, argv, environment=environment)
        if done.exit_code:
            said = (done.error or done.output).decode(errors="replace").strip()
            raise EngineError(f"`{' '.join(argv[:3])}` in the daemon's container: {said}")


def _wait(container: Container, path: Path) -> None:
    deadline = time.monotonic() + READY
    while not _answers(path):
        if time.monotonic() > deadline:
            last = container.logs(tail=1).decode(errors="replace").strip()
            raise EngineError(
                f"No daemon answered at {path} within {READY:.0f} s: {last}",
                "The measurement needs an engine on this machine, not in a virtual one.",
            )
        time.sleep(0.005)


def _answers(path: Path) -> bool:
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.suppress(OSError))
        client = stack.enter_context(socket.socket(socket.AF_UNIX))
        client.settimeout(1)
        folder = os.open(path.parent, os.O_PATH)
        stack.callback(os.close, folder)
        client.connect(f"/proc/self/fd/{folder}/{path.name}")  # short: sockets' paths are, unix(7)
        client.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
        return client.recv(32).startswith(b"HTTP/1.0 200")
    return False
