"""A data root that has the images, for engines under test to begin with: they load nothing then.

Once in a run an engine loads the images as they come. When it has stopped, its data root is the seed, and
each further engine gets a copy. So loading is tested where it is the subject, and takes no time elsewhere.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from dindkit.embedded.paths import Paths
from dindkit.files import locked
from dindkit.project import Project
from tests.support.host import new_host

#: Names the folder of the seed, for the workers of pytest-xdist.
SEED = "DINDKIT_TEST_SEED"

MAKE = """
import sys
from dindkit.embedded import lifecycle
from dindkit.engine import load
from dindkit.progress import Progress
from dindkit.project import Project
from tests.support.suites import build_image

project, progress = Project.here(), Progress()
dind, base = (build_image(project, name, sys.argv[1], progress) for name in ("dind", "base"))
engine = lifecycle.start(project, dind, progress)
try:
    for built in (dind, base):
        load.load(engine, built, progress)
finally:
    lifecycle.stop(project, progress)
"""


def prepare_seed() -> None:
    """Make a folder for the seed, which is made when the first engine needs it."""
    os.environ[SEED] = tempfile.mkdtemp(prefix="dindkit-seed-")


def remove_seed() -> None:
    """Delete the folder; copies are not touched by that."""
    if folder := os.environ.pop(SEED, ""):
        shutil.rmtree(folder, ignore_errors=True)


def plant(project: Project, suite: str) -> None:
    """Let the embedded engine of `project` have `dind` and `base` of `suite`.

    Nothing happens where no seed was asked for, or where that engine has run already.
    """
    data = Paths(project).data
    if SEED not in os.environ or data.exists():
        return
    folder = Path(os.environ[SEED])
    with locked(folder / "lock"):
        seed = folder / "data"
        if not seed.exists():
            _make(project, Path(tempfile.mkdtemp(dir=folder)), suite).rename(seed)
    _copy(seed, data)


def _make(project: Project, state: Path, suite: str) -> Path:
    with new_host(project, state) as host:
        words = [*host.enter, sys.executable, "-c", MAKE, suite]
        done = subprocess.run(words, env=host.environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return Paths(host.project).data


def _copy(seed: Path, data: Path) -> None:
    """Copy a data root: layers by links, for no engine writes into those, and all else as it is."""
    data.mkdir(parents=True)
    for path in seed.iterdir():
        link = ["--link"] if path.name == "overlay2" else []
        subprocess.run(["cp", "--archive", *link, path, data], check=True)
