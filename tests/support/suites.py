"""Images of the suite that --suite of pytest names, whose engine the tests hold to the contract.

The committed locks are for the default suite. Files of testing leave the mirrors within days, and only the
snapshot service keeps them: so tests of another suite lock anew, in a copy of the recipes.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from dindkit import defaults
from dindkit.image import locking
from dindkit.image.build import BuildOptions, Built, build
from dindkit.progress import Progress
from dindkit.project import Project

#: Names the copy, for the workers of pytest-xdist.
COPY = "DINDKIT_TEST_RECIPES"
LAGGING = 'Acquire::Check-Valid-Until "false";\n'


def prepare_suite(suite: str, progress: Progress) -> None:
    """Lock `suite` in a copy of the recipes, unless it is the default."""
    if suite == defaults.SUITE:
        return
    project = Project.here()
    folder = Path(tempfile.mkdtemp(prefix="dindkit-suite-"))
    os.environ[COPY] = str(folder)
    for name in ("images", "keys"):
        shutil.copytree(project.root / name, folder / name, symlinks=True)
    for lock in folder.glob(f"images/*/{suite}-*.lock"):
        lock.unlink()
    # The last of a chain, with all that it stands on.
    options = BuildOptions(image="dind-rootless", suite=suite, allow_expired=True)
    locking.lock(with_recipes(project), options, progress)


def remove_suite() -> None:
    """Delete the copy."""
    if folder := os.environ.pop(COPY, ""):
        shutil.rmtree(folder, ignore_errors=True)


def is_other() -> bool:
    """Tell whether another suite than the default is under test."""
    return COPY in os.environ


def with_recipes(project: Project) -> Project:
    """Return `project` with the recipes and locks of the suite under test."""
    return replace(project, root=Path(os.environ.get(COPY, project.root)))


def build_image(project: Project, image: str, suite: str, progress: Progress) -> Built:
    """Build `image` of `suite`."""
    return build(with_recipes(project), BuildOptions(image=image, suite=suite), progress)


def apt_settings() -> dict[str, str]:
    """Return files for containers, with which apt takes what a mirror of testing has that lags behind."""
    return {"/etc/apt/apt.conf.d/lagging": LAGGING} if is_other() else {}
