"""`invoke version`: the version of this program and of Python, and what there are locks for."""

from __future__ import annotations

import platform
import tomllib
from importlib import metadata
from typing import Any

from dindkit.image.committed_locks import committed
from dindkit.printing import result
from dindkit.progress import Progress
from dindkit.project import Project

NAME = "dindkit"


def run(project: Project, progress: Progress, found: dict[str, Any]) -> None:
    """Print the versions, and put them into `found`: version-1.json."""
    locks = [
        {
            "image": lock.image,
            "suite": lock.suite,
            "architecture": lock.architecture,
            "engine": lock.engine,
        }
        for _, lock in committed(project, progress)
    ]
    found |= {"dindkit": version(project), "python": platform.python_version(), "locks": locks}
    result(f"{NAME} {found['dindkit']}")
    result(f"Python {found['python']}")
    suites: dict[str, set[str]] = {}
    for lock in locks:
        suites.setdefault(lock["image"], set()).add(lock["suite"])
    for image, names in suites.items():
        result(f"{image}: locked for {', '.join(sorted(names))}")


def version(project: Project) -> str:
    """Return the version in the checkout's pyproject.toml or, without one, that of the package."""
    try:
        table = tomllib.loads((project.root / "pyproject.toml").read_text("utf-8"))["project"]
        if table["name"] == NAME:
            return str(table["version"])
    except (OSError, ValueError, LookupError):
        pass
    try:
        return metadata.version(NAME)
    except metadata.PackageNotFoundError:
        return "unknown"
