"""`invoke bench build`: how long builds, edits and loads take, against mmdebstrap and `docker load`.

Every measurement is a command in a copy of this checkout, with a state folder of its own. The tools that it
is compared with run in turn with it, round by round: a disturbance that lasts slows down both.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dindkit import owner, process
from dindkit.bench import floor, loads
from dindkit.bench.table import LINES, MMDEBSTRAP, Result, Run
from dindkit.errors import DindkitError
from dindkit.image import built as built_images
from dindkit.image.build import BuildOptions, build
from dindkit.image.build_inputs import BuildInputs
from dindkit.image.build_options import resolve
from dindkit.packages.download_cache import DownloadCache
from dindkit.progress import Progress
from dindkit.project import Project

#: Runs a command and prints three numbers: seconds until it prints a line that begins with the first argument
#: or ends; CPU seconds; bytes of its largest process.
MEASURE = """\
import json, resource, subprocess, sys, time
begins, *command = sys.argv[1:]
start, end = time.monotonic(), None
with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as running:
    for line in running.stdout:
        if end is None and begins and line.startswith(begins):
            end = time.monotonic()
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([(end or time.monotonic()) - start, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024]))
sys.exit(running.returncode)
"""

#: Nothing listens there, so that builds are measured without loading.
NOWHERE = "unix:///nonexistent/docker.sock"


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
        runs |= loads.measure(project, built, folder, rounds, progress)
        apart = floor.measure(project, folder, progress)
    with progress.step("compress"), built_images.compressed(built) as layout:
        return Result(runs, built.size, layout.size, apart, os.cpu_count() or 1)


def _run(argv: Sequence[str | Path], until: str = "", **environment: str) -> Run:
    """Measure a command to its end, or to the line that begins with `until`."""
    env = {**os.environ, "DOCKER_HOST": NOWHERE, **environment}
    done = process.run([sys.executable, "-c", MEASURE, until, *argv], env=env)
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
        """Build and prove the image as on the first day, on the engine that answers or the image itself.

        What is left stays to the end: some file systems are slow for minutes after files were deleted.
        """
        first = Path(tempfile.mkdtemp(prefix="first-", dir=self.folder))
        environment = {"DINDKIT_STATE": str(first / "state"), "DINDKIT_CACHE": str(first / "cache")}
        host = os.environ.get("DOCKER_HOST", "")
        words = (self.checkout / "scripts/invoke", "build", "smoke")
        return _run(words, "hello from level 2", **environment, DOCKER_HOST=host)

    def _build(self, cache: Path | None = None) -> Run:
        environment = {"DINDKIT_STATE": str(self.state), "DINDKIT_CACHE": str(cache or self.cache)}
        return _run([self.checkout / "scripts/invoke", "build"], **environment)


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
