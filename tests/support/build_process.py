"""Builds in processes of their own, to be interrupted, limited, or run beside each other."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.local_project import LocalProject

HERE = Path(__file__).parents[2]

BUILD = """
import sys
from pathlib import Path
from dindkit.errors import DindkitError
from dindkit.image.build import BuildOptions, build
from dindkit.progress import Progress
from dindkit.project import Project
root, state, cache, image = sys.argv[1:]
try:
    project = Project(Path(root), Path(state), Path(cache))
    print(build(project, BuildOptions(image=image), Progress()).image_id)
except (DindkitError, OSError) as error:
    sys.exit(f"error: {error}")
"""


def command(local_project: LocalProject, state: Path, image: str = "app") -> list[str]:
    project = local_project.project
    return [sys.executable, "-c", BUILD, str(project.root), str(state), str(project.cache), image]


def start(local_project: LocalProject, state: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(local_project, state),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(HERE)},
    )


def state_with_base(local_project: LocalProject, folder: Path) -> Path:
    """Return a state folder of its own, in which base is built already."""
    built = local_project.build("base")
    shutil.copytree(built.folder, folder / "images" / built.folder.name)
    for layer in built.layers:
        kept = built.store.path(layer.diff_id).parent
        shutil.copytree(kept, folder / "layers" / kept.name)
    return folder
