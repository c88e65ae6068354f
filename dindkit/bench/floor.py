"""The steps that no build can leave out, measured apart: checks of packages, and maintainer scripts."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from io import BufferedReader
from pathlib import Path
from typing import IO, cast

from dindkit.bench.table import CHECKS, SCRIPTS
from dindkit.formats import deb
from dindkit.image.build import BuildOptions, build
from dindkit.image.build_options import resolve
from dindkit.packages.download_cache import DownloadCache
from dindkit.progress import Progress
from dindkit.project import Project
from dindkit.sandbox.choice import DefaultSandbox
from dindkit.sandbox.interface import Sandbox, ScriptRun, Taken


@dataclass
class _Scripts:
    """A sandbox that measures how long its scripts take: from the whole tree to its first byte back."""

    sandbox: Sandbox
    seconds: list[float] = field(default_factory=list)

    def run(self, run: ScriptRun[Taken]) -> Taken:
        begun = 0.0

        def write(pipe: IO[bytes]) -> None:
            nonlocal begun
            run.write_tree(pipe)
            pipe.flush()
            begun = time.monotonic()

        def read(pipe: IO[bytes]) -> Taken:
            cast(BufferedReader, pipe).peek(1)
            self.seconds.append(time.monotonic() - begun)
            return run.read_tree(pipe)

        return self.sandbox.run(replace(run, write_tree=write, read_tree=read))


def measure(project: Project, folder: Path, progress: Progress) -> dict[str, float]:
    """Return the seconds of each step that no build can leave out, by CHECKS and SCRIPTS."""
    store = DownloadCache(project.cache)
    with progress.step("measure the floor"):
        checks = []
        for made in resolve(project, BuildOptions()):
            start = time.process_time()
            for row in made.lock.rows:
                deb.inspect(store.path(row.sha256), row)
            checks.append(time.process_time() - start)
        apart = replace(project, state=folder / "apart")
        scripts = _Scripts(DefaultSandbox(apart, progress))
        for name in ("base", "dind"):  # so that no packages of dind are checked beside the scripts of base
            build(apart, BuildOptions(image=name), Progress(quiet=True), scripts)
    return dict(zip((*CHECKS, *SCRIPTS), (*checks, *scripts.seconds), strict=True))
