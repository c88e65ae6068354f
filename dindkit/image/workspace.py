"""A folder for what a build has under way, which nothing outlives."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dindkit.project import Project


@contextmanager
def workspace(project: Project) -> Iterator[Path]:
    """Yield a folder that is gone afterwards; what a killed build left there goes as well."""
    parent = project.state / "tmp"
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob("build-*"):
        number = left.name.split("-")[1]
        if number.isdigit() and not _alive(int(number)):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix=f"build-{os.getpid()}-") as name:
        yield Path(name)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
