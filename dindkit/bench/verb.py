"""`invoke bench`: which of the measurements, and in how many rounds."""

from __future__ import annotations

from dindkit import defaults
from dindkit.bench import boot, build, table
from dindkit.errors import DindkitError, did_you_mean
from dindkit.progress import Progress
from dindkit.project import Project

#: What can be measured.
BENCHES = ("boot", "build")


def run(
    project: Project, progress: Progress, what: str, pairs: int = 5, suite: str = defaults.SUITE
) -> boot.Result | table.Result:
    """Run the bench called `what` for `pairs` rounds. Raises DindkitError where there is none."""
    if what not in BENCHES:
        hint = did_you_mean(what, BENCHES)
        raise DindkitError(f"There is no bench {what}.", f"{hint}Choose: {', '.join(BENCHES)}.")
    if pairs < 1:
        raise DindkitError(f"{pairs} pairs cannot be measured.", "Give --pairs a number from 1 on.")
    if what == "boot":
        return boot.boot(project, progress, pairs, suite)
    if suite != defaults.SUITE:
        raise DindkitError(f"Builds are measured for {defaults.SUITE} alone.", "Leave --suite out.")
    return build.measure(project, progress, pairs)
