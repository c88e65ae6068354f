"""The long run: `python -m tests.faults [STEP…]`, what `invoke test --faults` calls.

Each step of the real project, with its real images and downloads, is ended at ten moments by each signal.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dindkit.project import Project
from tests.faults.check import Step, check, run_whole
from tests.faults.run import ROOT, SIGNALS, Running
from tests.support import host, registry

#: Parts of the time that a whole run takes.
MOMENTS = [(number + 0.5) / 10 for number in range(10)]

STEPS = {
    "build": Step(("build", "--output", "{results}/dind.tar"), "locked"),
    "lock": Step(("lock",), "built", online=True, tells_changes=True),
    "verify": Step(("verify",), "built", online=True),
    "audit": Step(("audit", "--html", "{results}/page.html"), "built"),
    "sbom": Step(("sbom", "--output", "{results}/sbom.json"), "built"),
    "push": Step(("push", "{registry}/team/dind:1"), "built"),
    "clean": Step(("clean",), "built"),
    "engine.start": Step(("engine.start",), "built", undo=("engine.stop", "--purge")),
    # A whole proof on an engine that is there before and afterwards.
    "smoke": Step(("smoke",), "started"),
}


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


@dataclass
class RealProject:
    """A copy of the checkout's files with a state folder of its own; downloads are the user's."""

    folder: Path
    project: Project
    step: Step
    registry: str = ""

    @property
    def changing(self) -> tuple[Path, Path, Path]:
        return self.folder / "tmp", self.folder / "results", self.folder / "files"

    def begin(self, kept: str) -> None:
        """Put files and state back; an engine that runs goes on."""
        kept = "built" if kept == "started" else kept
        for path in self.changing:
            shutil.rmtree(path, ignore_errors=True)
        for path in self.changing[:2]:
            path.mkdir()
        subprocess.run(["cp", "-a", self.folder / "kept/files", self.folder / "files"], check=True)
        if self.step.kept != "started" or not self.project.state.exists():
            shutil.rmtree(self.project.state, ignore_errors=True)
            subprocess.run(["cp", "-a", self.folder / "kept" / kept, self.project.state], check=True)

    def start(self, words: tuple[str, ...]) -> Running:
        line = [word.format(results=self.changing[1], registry=self.registry) for word in words]
        return Running(self.project, self.changing[0], line)

    def see(self, mark: str) -> set[str]:
        """Return what there is; names of virtual links are made up anew each time.

        The embedded engine's own folder stays between its starts, with its data and a log that grows.
        """
        folders = [self.project.state, *self.changing]
        found = host.snapshot(folders, mark, content=False, network=not self.step.online)
        engine = f"file: {self.project.state}/engine"
        others = (line for line in found if line != engine and not line.startswith(f"{engine}/"))
        return {re.sub(r"\bveth\w+", "veth", line) for line in others}


@contextlib.contextmanager
def prepared(folder: Path) -> Iterator[Project]:
    """Give the project at `folder`, with its files kept, its state without images, and with them."""
    here = Project.here()
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    files = folder / "kept/files"
    for name in filter(None, names.decode().split("\0")):
        (files / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, files / name, follow_symlinks=False)  # some lead into the image
    project = Project(folder / "files", folder / "state", here.cache)
    (folder / "kept/locked").mkdir()
    bench = RealProject(folder, project, Step((), "locked"))
    bench.begin("locked")
    say("build what steps start from")
    for image in ("base", "dind"):
        ended = bench.start(("build", "--image", image)).wait(1800)
        assert ended.code == 0, ended.said
    subprocess.run(["cp", "-a", project.state, folder / "kept/built"], check=True)
    yield project


def try_step(folder: Path, project: Project, name: str) -> list[str]:
    """Return what was wrong, a text for each fault."""
    step, wrong = STEPS[name], []
    with contextlib.ExitStack() as stack:
        if not step.online:
            stack.enter_context(host.own_network())
        bench = RealProject(folder, project, step)
        if name == "push":
            bench.registry = stack.enter_context(registry.serve(folder / "registry")).host
        bench.begin(step.kept)
        if step.kept == "started":
            started = bench.start(("engine.start",)).wait(600)
            stack.callback(lambda: bench.start(("engine.stop", "--purge")).wait(600))
            assert started.code == 0, started.said
        run_whole(bench, step)  # what a first run makes for all that follow is there from now on
        bench.begin(step.kept)
        right = run_whole(bench, step)
        after = bench.see(right.mark)
        say(f"{name}: {right.seconds:.1f} s")
        for number in SIGNALS:
            for moment in MOMENTS:
                try:
                    check(bench, step, right, after, number, moment)
                except AssertionError as error:
                    wrong.append(f"{name}, {error}")
                    say(f"  {wrong[-1]}")
        faults = len(SIGNALS) * len(MOMENTS)
        say(f"{name}: {faults - len(wrong)} of {faults} faults left nothing")
    return wrong


def main(names: list[str]) -> int:
    """Try the steps that are named, or all; return how many faults left something."""
    began, wrong = time.monotonic(), []
    os.environ.pop("DOCKER_HOST", None)
    with tempfile.TemporaryDirectory(prefix="dindkit-faults-") as made, prepared(Path(made)) as project:
        for name in names or STEPS:
            try:
                wrong += try_step(Path(made), project, name)
            except AssertionError as error:
                wrong.append(f"{name}, whole: {error}")
                say(f"  {wrong[-1]}")
    say(f"{len(wrong)} faults left something, in {(time.monotonic() - began) / 60:.0f} minutes")
    return len(wrong)


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1:]) else 0)
