"""The table of `invoke bench build`: its rows, what each may take, and what it cannot come below."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from dindkit.progress import size

MMDEBSTRAP, DOCKER_LOAD = "mmdebstrap", "docker load"
#: What the engine itself takes to load the image's layers as plain tars, sent as fast as it reads them.
PLAIN_LOAD = "plain layers"


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


COLD = Line("build, empty cache", 0.35, MMDEBSTRAP)
CACHED = Line("build, downloads cached", 0.30, MMDEBSTRAP)
CHANGED = Line("the packages of dind changed", 0.30, MMDEBSTRAP)
#: Until hello has come from level 2; then its engine is stopped.
README = Line("README's first command, empty cache", 20.0)

#: The rows, in the order in which they are measured in each round.
LINES = (
    COLD,
    CACHED,
    CHANGED,
    Line("a file of the recipe edited", 2.0),
    Line("a line of Python that does not matter", 2.0),
    Line("nothing changed", 0.3),
    README,
)
#: These rows need an engine, and so come last. The first is measured where none answers: see loads.py.
FRESH = Line("its image into a fresh embedded engine", 0.5, DOCKER_LOAD)
LOAD = Line("the first load into an engine that runs", 0.5, DOCKER_LOAD)


#: Steps of a build, measured apart, for base and for dind: CPU seconds of the checks, which run on all cores;
#: and seconds of dpkg, with nothing else to do.
CHECKS = ("check packages of base, of CPU", "check packages of dind, of CPU")
SCRIPTS = ("dpkg in base", "dpkg in dind")
#: The rows that cannot take less than those steps.
SLOW = (COLD, CACHED, CHANGED, README)

#: The rows whose largest process counts as a build's.
BUILDS = LINES[:-1]


@dataclass(frozen=True)
class Result:
    """What one run has measured: runs by the name of their row, the peers' among them."""

    runs: dict[str, list[Run]]
    #: Bytes of the image's layers: uncompressed, and compressed below.
    unpacked: int
    compressed: int
    #: What no build can leave out, measured apart: see CHECKS and SCRIPTS.
    floor: dict[str, float] = field(default_factory=dict)
    cores: int = 1

    def ratio(self, line: Line) -> float:
        """Return the median of the rounds' ratios to the row's peer."""
        pairs = zip(self.runs[line.name], self.runs[line.peer], strict=True)
        return statistics.median(ours.seconds / theirs.seconds for ours, theirs in pairs)

    def least(self, line: Line) -> float:
        """Return the seconds below which the row cannot come on these cores; 0 where that was not measured.

        No package of dind is unpacked before all are checked, and base is finished.
        """
        if line is LOAD:
            return statistics.median(run.seconds for run in self.runs[PLAIN_LOAD])
        if line not in SLOW or not self.floor:
            return 0.0
        checks = [self.floor[name] for name in CHECKS]
        base, dind = (self.floor[name] for name in SCRIPTS)
        if line is CHANGED:
            return checks[-1] / self.cores + dind
        return max(base, (sum(checks) + base) / self.cores) + dind

    @property
    def lines(self) -> list[Line]:
        """Return the rows that were measured."""
        return [line for line in (*LINES, FRESH, LOAD) if self.runs[line.name]]

    def figures(self) -> dict[str, Any]:
        """Return every figure, as bench-1.json describes it."""
        ratios = {line.name: self.ratio(line) for line in self.lines if line.peer}
        return {"what": "build", **asdict(self), "ratios": ratios}

    def as_text(self) -> str:
        """Return a table of the medians."""
        rows = [f"{'median of ' + str(len(self.runs[MMDEBSTRAP])):<40} {'time':>9} {'CPU':>9}  at most"]
        for line in self.lines:
            bound = f"{line.most:.1f} s"
            if line.peer:
                bound = f"{line.most:.2f} of {line.peer}'s time; it is {self.ratio(line):.2f}"
            if least := self.least(line):
                bound += f"; no less than {least:.1f} s here"
            rows.append(f"{line.name:<40} {_middle(self.runs[line.name])}  {bound}")
        rows.append(f"{'mmdebstrap, the same packages':<40} {_middle(self.runs[MMDEBSTRAP])}")
        rows.append(f"{'docker load, of the compressed archive':<40} {_middle(self.runs[DOCKER_LOAD])}")
        rows.append(f"{'the engine alone, with plain layers':<40} {_middle(self.runs[PLAIN_LOAD])}")
        memory = max(run.memory for line in BUILDS for run in self.runs[line.name])
        rows.append(f"largest process of a build: {size(memory)}, at most 400 MB")
        rows.append(f"image: {size(self.compressed)} compressed, {size(self.unpacked)} unpacked")
        rows += [f"apart: {name} {seconds:.1f} s" for name, seconds in self.floor.items()]
        return "\n".join(rows)


def _middle(runs: Sequence[Run]) -> str:
    seconds = statistics.median(run.seconds for run in runs)
    return f"{seconds:7.2f} s {statistics.median(run.cpu for run in runs):7.2f} s"
