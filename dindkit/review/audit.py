"""`invoke audit`: report what is in the image, who signed it, and why it is there."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from dindkit.errors import DindkitError
from dindkit.files import check_output
from dindkit.formats.contents import ContentStore
from dindkit.image.build import build
from dindkit.image.build_options import BuildOptions, resolve
from dindkit.progress import Progress
from dindkit.project import Project
from dindkit.review import gather, text, updates
from dindkit.review.forms import Forms
from dindkit.review.report import Report

#: Exit code for waiting security updates, so that a CI job can tell them from other failures.
SECURITY = 3


def examine(
    project: Project, options: BuildOptions, progress: Progress, *, with_updates: bool = False
) -> Report:
    """Build the image from its locks, or take it from the state folder, and report on it.

    The report explains the image by its committed locks, so a locked package that is gone is an error here.
    Raises DindkitError.
    """
    options = replace(options, solve_anew=False)
    chain = resolve(project, options)
    built = build(project, options, progress)
    with progress.step("read the image"), closing(ContentStore(project.state / "tmp")) as contents:
        report = gather.gather(gather.read(built, contents), chain)
    return replace(report, now=updates.find(project, chain, progress)) if with_updates else report


def audit(
    project: Project,
    options: BuildOptions,
    progress: Progress,
    out: TextIO,
    *,
    found: dict[str, Any] | None = None,
    html: Path | None = None,
    with_updates: bool = False,
    against: str = "",
) -> None:
    """Print the report on `out`, or put it into `found`: audit-1.json; with `html` write a page instead.

    With `against`, what changed since that image, archive or revision is shown in place of the report. With
    `with_updates` a DindkitError with exit code 3 follows the report where security updates are waiting.
    """
    if against:
        if with_updates:
            raise DindkitError("--updates and --against are two questions.", "Ask them one after the other.")
        from dindkit.review import against as differences

        differences.run(project, options, against, progress, out, found=found, html=html)
        return
    if html:
        check_output(html)
    report = examine(project, options, progress, with_updates=with_updates)
    Forms("the audit is", text.show, _page).show(report, progress, out, found, html)
    security = [update.name for update in report.now.updates if update.security] if report.now else []
    if security:
        raise waiting(security)


def _page(report: Report) -> str:
    from dindkit.review.page.render import render  # imported here: templates take time

    return render(report)


def waiting(names: Sequence[str]) -> DindkitError:
    """Return the error that says which security updates are waiting."""
    listed = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    count = f"{len(names)} security update{'s' * (len(names) != 1)}"
    return DindkitError(f"{count} waiting: {listed}.", "Take them with: invoke lock", SECURITY)
