"""What examples' tests stand on: private copies of their files, and our image's own docker command line."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from dindkit.engine.discover import Engine
from dindkit.image.build import BuildOptions, Built, build
from dindkit.progress import Progress
from dindkit.project import Project
from tests.examples.docker import Docker, take
from tests.support.small_image import small_image

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="session")
def docker(engine: Engine, dind: Built, base: Built, tmp_path_factory: pytest.TempPathFactory) -> Docker:
    folder = tmp_path_factory.mktemp("docker-cli")
    container = engine.client.containers.create(dind.reference)
    try:
        program = take(container, folder)
    finally:
        container.remove(v=True)
    environment = {
        **os.environ,
        "DOCKER_HOST": engine.host,
        "DOCKER_CONFIG": str(folder),
        "DIND_IMAGE": dind.reference,
        "BASE_IMAGE": base.reference,
    }
    return Docker(program, environment)


@pytest.fixture(scope="session")
def devcontainer_cli(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the version that is pinned by hash in devcontainer-cli/."""
    folder = tmp_path_factory.mktemp("devcontainer-cli")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(Path(__file__).with_name("devcontainer-cli") / name, folder)
    npm = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(npm, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "node_modules/.bin/devcontainer"


@pytest.fixture(scope="session")
def git_image(project: Project, progress: Progress) -> Built:
    return build(project, BuildOptions(image="git"), progress)


@pytest.fixture(scope="session")
def base_archive(base: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give an archive with what examples call of `base`, by its name: nested daemons load it in less time."""
    path = tmp_path_factory.mktemp("base") / "base.tar"
    path.write_bytes(small_image(base, base.reference))
    return path


@pytest.fixture
def example(tmp_path: Path) -> Callable[[str], Path]:
    """Copy an example's files, so that a test writes nothing into the checkout."""

    def copy(name: str) -> Path:
        return shutil.copytree(EXAMPLES / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))

    return copy


@pytest.fixture(scope="session")
def token() -> str:
    """Tells what this session makes from what others make."""
    return uuid.uuid4().hex[:12]
