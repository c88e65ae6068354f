"""The page of a report: what its templates need besides the report itself."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from dindkit.review.licences import licence_counts
from dindkit.review.page import chain, treemap
from dindkit.review.page.environment import fill, source
from dindkit.review.report import File, Report


def render(report: Report) -> str:
    """Return the whole page. Equal reports give equal pages."""
    return page(
        "audit.html",
        report=report,
        unowned_origins=_origins(report.unowned),
        changed_origins=_origins(report.changed),
        licence_counts=licence_counts(report.packages),
        start=list(_start(report.image.config)),
        draw_chain=chain.draw,
        draw_treemap=treemap.draw,
    )


def page(template: str, **values: Any) -> str:
    """Return a page with the project's style and script in it, which are the only ones that may run in it."""
    style, script = source("style.css"), source("page.js")
    return fill(
        template,
        style=Markup(style),  # noqa: S704 - files of this package
        style_hash=_policy_hash(style),
        script=Markup(script),  # noqa: S704
        script_hash=_policy_hash(script),
        **values,
    )


def _policy_hash(text: str) -> str:
    """Return the hash by which a content security policy allows an inline style or script."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


@dataclass(frozen=True)
class _Origin:
    """How many files have one origin; `by` has parts of it with their counts, largest first."""

    origin: str
    count: int
    by: tuple[tuple[str, int], ...]


def _origins(files: Sequence[File]) -> list[_Origin]:
    """Count files by origin; those that a recipe copies count for its folder, not each for itself."""
    counts: dict[str, Counter[str]] = {}
    for file in files:
        folder, rootfs, _ = file.by.partition("/rootfs/")
        by = f"{folder}{rootfs}" if rootfs else file.by or "unknown"
        counts.setdefault(file.origin, Counter())[by] += 1
    found = [_Origin(name, by.total(), tuple(by.most_common())) for name, by in counts.items()]
    return sorted(found, key=lambda one: (-one.count, one.origin))


def _start(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what a container starts with, each a name and a text."""
    for name, key in (
        ("entrypoint", "Entrypoint"),
        ("command", "Cmd"),
        ("volumes", "Volumes"),
        ("environment", "Env"),
    ):
        if value := config.get(key):
            yield name, " ".join(sorted(value) if isinstance(value, dict) else value)
    yield "user", config.get("User") or "root"
