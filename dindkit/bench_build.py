"""`invoke bench build`: how long builds, edits and loads take, against mmdebstrap and `docker load`.

Every measurement is a command in a copy of this checkout, with a state folder of its own. The tools that it
is compared with run in turn with it, round by round: a disturbance that lasts slows down both.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import resource
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from docker.errors import APIError

from dindkit import owner, process
from dindkit.embedded.running import running_engine
from dindkit.engine import load
from dindkit.engine.discover import Engine
from dindkit.errors import DindkitError, EngineError
from dindkit.image import built as built_images
from dindkit.image import output as outputs
from dindkit.image.build import BuildOptions, Built, build
from dindkit.image.build_inputs import BuildInputs
from dindkit.image.build_options import resolve
from dindkit.packages.download_cache import DownloadCache
from dindkit.progress import Progress, size
from dindkit.project import Project

#: Runs a command and prints three numbers: seconds of wall time, CPU seconds, bytes of its largest process.
MEASURE = """\
import json, resource, subprocess, sys, time
start = time.monotonic()
code = subprocess.call(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([time.monotonic() - start, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024]))
sys.exit(code)
"""

#: Nothing listens there, so that builds are measured without loading.
NOWHERE = "unix:///nonexistent/docker.sock"

MMDEBSTRAP, DOCKER_LOAD = "mmdebstrap", "docker load"


@dataclass(frozen=True)
class Run:
    """One run of a command: seconds of wall time and of CPU, and the bytes of its largest process."""

    seconds: float
    cpu: float
    memory: int


@dataclass(frozen=True)
class Line:
    """A row of the table: what is measured, and its limit: seconds, or a share of what `peer` takes."""

    name: str
    most: float
    peer: str = ""


#: The rows, in the order in which they are measured in each round.
LINES = (
    Line("build, empty cache", 0.35, MMDEBSTRAP),
    Line("build, downloads cached", 0.30, MMDEBSTRAP),
    Line("the packages of dind changed", 0.30, MMDEBSTRAP),
    Line("a file of the recipe edited", 2.0),
    Line("a line of Python that does not matter", 2.0),
    Line("nothing changed", 0.3),
    Line("README's first command, empty cache", 20.0),
)
#: This row needs an engine, and so comes last.
LOAD = Line("the first load into an engine", 0.5, DOCKER_LOAD)


#: The rows whose largest process counts as a build's.
BUILDS = LINES[:-1]


@dataclass(frozen=True)
class Result:
    """What one run has measured: runs by the name of their row, the peers' among them."""

    runs: dict[str, list[Run]]
    #: Bytes of the image's layers: uncompressed, and compressed below.
    unpacked: int
    compressed: int
    #: CPU seconds of each step of a cold build, measured one by one.
    floor: dict[str, float] = field(default_factory=dict)

    def ratio(self, line: Line) -> float:
        """Return the median of the rounds' ratios to the row's peer."""
        pairs = zip(self.runs[line.name], self.runs[line.peer], strict=True)
        return statistics.median(ours.seconds / theirs.seconds for ours, theirs in pairs)

    def figures(self) -> dict[str, Any]:
        """Return every figure, as bench-1.json describes it."""
        ratios = {line.name: self.ratio(line) for line in (*LINES, LOAD) if line.peer}
        return {"what": "build", **asdict(self), "ratios": ratios}

    def as_text(self) -> str:
        """Return a table of the medians."""
        rows = [f"{'median of ' + str(len(self.runs[MMDEBSTRAP])):<40} {'time':>9} {'CPU':>9}  at most"]
        for line in (*LINES, LOAD):
            bound = f"{line.most:.1f} s"
            if line.peer:
                bound = f"{line.most:.2f} of {line.peer}'s time; it is {self.ratio(line):.2f}"
            rows.append(f"{line.name:<40} {_middle(self.runs[line.name])}  {bound}")
        rows.append(f"{'mmdebstrap, the same packages':<40} {_middle(self.runs[MMDEBSTRAP])}")
        rows.append(f"{'docker load, of the compressed archive':<40} {_middle(self.runs[DOCKER_LOAD])}")
        memory = max(run.memory for line in BUILDS for run in self.runs[line.name])
        rows.append(f"largest process of a build: {size(memory)}, at most 400 MB")
        rows.append(f"image: {size(self.compressed)} compressed, {size(self.unpacked)} unpacked")
        rows += [f"floor: {name} {seconds:.1f} s of CPU" for name, seconds in self.floor.items()]
        return "\n".join(rows)


def _middle(runs: Sequence[Run]) -> str:
    seconds = statistics.median(run.seconds for run in runs)
    return f"{seconds:7.2f} s {statistics.median(run.cpu for run in runs):7.2f} s"


def measure(project: Project, progress: Progress, rounds: int = 3) -> Result:
    """Measure `rounds` times. mmdebstrap gets its packages from this project's download cache.

    Raises DindkitError for fewer than one round, ToolMissingError without mmdebstrap, CommandError where a
    command fails.
    """
    if rounds < 1:
        raise DindkitError(f"{rounds} rounds cannot be measured.", "Ask for one or more: --pairs=3")
    if project.installed:
        raise DindkitError("Builds are measured in a checkout: an edit of its files is one of them.")
    process.require(MMDEBSTRAP)
    chain = resolve(project, BuildOptions())
    built = build(project, BuildOptions(), progress)
    with owner.workspace(project.state, "bench") as folder:
        DownloadCache(project.cache).fetch(built.inputs.rows, chain[-1].keys, progress)
        archive = _archive(project, chain, folder / "archive")
        trial = _Trial(_copy(project, folder / "checkout"), project.cache, folder)
        runs: dict[str, list[Run]] = {name: [] for name in (*(line.name for line in LINES), MMDEBSTRAP)}
        with progress.step("bench rounds", total=rounds) as step:
            for _ in range(rounds):
                for line, one in zip(LINES, trial.all(), strict=True):
                    runs[line.name].append(one())
                runs[MMDEBSTRAP].append(_mmdebstrap(chain, archive, folder))
                step.advance()
        runs |= _loads(project, built, folder, rounds, progress)
        floor = _floor(project, built)
    with progress.step("compress"), built_images.compressed(built) as layout:
        return Result(runs, built.size, layout.size, floor)


def _run(argv: Sequence[str | Path], **environment: str) -> Run:
    env = {**os.environ, "DOCKER_HOST": NOWHERE, **environment}
    done = process.run([sys.executable, "-c", MEASURE, *argv], env=env)
    return Run(*json.loads(done.stdout))


@dataclass(frozen=True)
class _Trial:
    checkout: Path
    cache: Path
    folder: Path

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def all(self) -> list[Callable[[], Run]]:
        """Return what each of LINES measures."""
        return [self.cold, self.cached, self.changed, self.edited, self.code, self._build, self.readme]

    def cold(self) -> Run:
        shutil.rmtree(self.folder / "empty", ignore_errors=True)
        return self._anew(self.folder / "empty")

    def cached(self) -> Run:
        return self._anew(self.cache)

    def _anew(self, cache: Path) -> Run:
        shutil.rmtree(self.state, ignore_errors=True)
        return self._build(cache)

    def changed(self) -> Run:
        """Build the image where only its base image has been built before."""
        for path in (*self.state.glob("images/dind-*"), *self.state.glob("packages/dind-*")):
            shutil.rmtree(path)
        return self._build()

    def edited(self) -> Run:
        with (self.checkout / "images/dind/rootfs/usr/local/lib/dind/log.sh").open("a") as file:
            file.write(f"# {time.monotonic_ns()}\n")
        return self._build()

    def code(self) -> Run:
        with (self.checkout / "dindkit/tools/doctor.py").open("a") as file:
            file.write(f"\nMEASURED = {time.monotonic_ns()}\n")
        return self._build()

    def readme(self) -> Run:
        """Build and prove the image as on the first day, on the engine that answers or the image itself."""
        first = self.folder / "first"
        shutil.rmtree(first, ignore_errors=True)
        environment = {"DINDKIT_STATE": str(first / "state"), "DINDKIT_CACHE": str(first / "cache")}
        host = os.environ.get("DOCKER_HOST", "")
        return _run([self.checkout / "scripts/invoke", "build", "smoke"], **environment, DOCKER_HOST=host)

    def _build(self, cache: Path | None = None) -> Run:
        environment = {"DINDKIT_STATE": str(self.state), "DINDKIT_CACHE": str(cache or self.cache)}
        return _run([self.checkout / "scripts/invoke", "build"], **environment)


def _loads(
    project: Project, built: Built, folder: Path, rounds: int, progress: Progress
) -> dict[str, list[Run]]:
    """Load the image `rounds` times into an engine that has none of its layers: our way, then Docker's.

    CPU and memory are this process's: the engine's own work is in the time alone. An image that was there
    before is there again at the end.
    """
    runs: dict[str, list[Run]] = {LOAD.name: [], DOCKER_LOAD: []}
    archive = folder / "dind.tar"
    outputs.write(project, built, outputs.parse(str(archive)), progress)
    with (
        running_engine(project, progress, built) as engine,
        progress.step("load rounds", total=rounds) as step,
    ):
        for _ in range(rounds):
            for name, once in (
                (LOAD.name, lambda: load.load(engine, built, Progress(quiet=True))),
                (DOCKER_LOAD, lambda: _docker_load(engine, archive)),
            ):
                _forget(engine, built)
                runs[name].append(_timed(once))
            step.advance()
        load.load(engine, built, Progress(quiet=True))
    return runs


def _docker_load(engine: Engine, archive: Path) -> None:
    with archive.open("rb") as file:
        engine.client.images.load(file)


def _forget(engine: Engine, built: Built) -> None:
    """Remove every image that begins with the image's first layer, so that the engine has none of its layers.

    Raises EngineError where a container has one.
    """
    first = built.layers[0].diff_id
    try:
        for image in engine.client.images.list(all=True):
            if (image.attrs["RootFS"].get("Layers") or [""])[0] == first:
                engine.client.images.remove(str(image.id), force=True)
    except APIError as error:
        raise EngineError(
            f"{engine.host} has an image of ours that cannot be removed: {error.explanation}.",
            "A first load needs an engine without it. Remove its containers, or stop that engine.",
        ) from error


def _timed(once: Callable[[], None]) -> Run:
    start, cpu = time.monotonic(), time.process_time()
    once()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Run(time.monotonic() - start, time.process_time() - cpu, memory)


def _copy(project: Project, target: Path) -> Path:
    """Copy the checkout, with a link to its environment."""
    left_out = shutil.ignore_patterns(".git", ".venv", "__pycache__")
    shutil.copytree(project.root, target, ignore=left_out, symlinks=True)
    (target / ".venv").symlink_to(sys.prefix)
    return target


def _archive(project: Project, chain: Sequence[BuildInputs], folder: Path) -> Path:
    """Make a flat archive of all packages of the image, deb-src(5)'s `URI ./`, for apt to copy from."""
    folder.mkdir()
    store, stanzas = DownloadCache(project.cache), []
    for row in chain[-1].rows:
        name = f"{row.sha256}.deb"
        shutil.copyfile(store.path(row.sha256), folder / name)
        control = process.run(["dpkg-deb", "--field", folder / name]).stdout.decode()
        stanzas.append(f"{control}Filename: ./{name}\nSize: {row.size}\nSHA256: {row.sha256}\n")
    index = "\n".join(stanzas).encode()
    (folder / "Packages").write_bytes(index)
    digest = hashlib.sha256(index).hexdigest()
    (folder / "Release").write_text(f"Suite: bench\nSHA256:\n {digest} {len(index)} Packages\n")
    return folder


def _mmdebstrap(chain: Sequence[BuildInputs], archive: Path, folder: Path) -> Run:
    """Run mmdebstrap for a tar of the same packages, with the same path rules."""
    rules = []
    for made in chain:
        exclude = (*made.recipe.slim.exclude, *made.engine.exclude)
        rules += [f"--dpkgopt=path-exclude={pattern}" for pattern in exclude]
        rules += [f"--dpkgopt=path-include={pattern}" for pattern in made.recipe.slim.include]
    names = ",".join(name for made in chain[1:] for name in made.requested)
    return _run(
        [
            process.require(MMDEBSTRAP),
            "--variant=apt",
            "--mode=root" if os.geteuid() == 0 else "--mode=unshare",
            f"--architectures={chain[0].lock.architecture}",
            '--aptopt=APT::Install-Recommends "false"',
            *rules,
            f"--include={names}",
            chain[0].lock.suite,
            folder / "mmdebstrap.tar",
            f"deb [trusted=yes] copy:{archive} ./",
        ]
    )


def _floor(project: Project, built: Built) -> dict[str, float]:
    """Return the CPU seconds of each step that no build can leave out."""
    from dindkit.formats import deb

    store = DownloadCache(project.cache)
    files = {row: store.path(row.sha256) for row in built.inputs.rows}
    with _cpu() as decompress:
        for row, path in files.items():
            deb.inspect(path, row)
    with _cpu() as hashing, built_images.opened(built) as layout:
        layout.hold_layers()
    return {"decompress and check all packages": decompress[0], "hash all layers": hashing[0]}


@contextlib.contextmanager
def _cpu() -> Iterator[list[float]]:
    """Yield a list; when the block is done it holds the block's CPU seconds."""
    used: list[float] = []
    start = time.process_time()
    yield used
    used.append(time.process_time() - start)
