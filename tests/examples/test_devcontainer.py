"""The devcontainer, brought up by the real command line of the Dev Containers specification."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dindkit.image.build import Built
from tests.examples.docker import Docker

pytestmark = pytest.mark.engine

#: The first user of a Debian system, who is `dev` in the example.
UID = 1000


@dataclass(frozen=True)
class Devcontainer:
    """`devcontainer` for one workspace folder."""

    program: Path
    docker: Docker
    workspace: Path

    def __call__(self, verb: str, *words: str, stdin: Path | None = None) -> str:
        """Run `devcontainer VERB … WORDS` and return what it printed."""
        command = [str(self.program), verb, f"--workspace-folder={self.workspace}", *words]
        path = f"{self.docker.program.parent}:{self.docker.environment['PATH']}"
        with (stdin or Path(os.devnull)).open("rb") as source:
            done = subprocess.run(
                command,
                env={**self.docker.environment, "PATH": path},
                stdin=source,
                capture_output=True,
                text=True,
            )
        assert done.returncode == 0, f"devcontainer {verb} {words}: {done.stderr}{done.stdout}"
        return done.stdout.strip()

    def inside(self, *words: str, stdin: Path | None = None) -> str:
        return self("exec", *words, stdin=stdin)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the version that is pinned by hash in devcontainer-cli/."""
    folder = tmp_path_factory.mktemp("devcontainer-cli")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(Path(__file__).with_name("devcontainer-cli") / name, folder)
    npm = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(npm, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "node_modules/.bin/devcontainer"


@pytest.fixture
def devcontainer(program: Path, docker: Docker, example: Callable[[str], Path]) -> Iterator[Devcontainer]:
    workspace = example("devcontainer")
    for path in (workspace, *workspace.rglob("*")):
        os.chown(path, UID, UID)
    here = Devcontainer(program, docker, workspace)
    try:
        answer = json.loads(here("up", "--mount-workspace-git-root=false").splitlines()[-1])
        assert answer["outcome"] == "success"
        assert answer["remoteUser"] == "dev"
        yield here
    finally:
        _remove(docker, workspace)


def _remove(docker: Docker, workspace: Path) -> None:
    """Take away what `devcontainer up` made: it has no command for that."""
    format_ = '{{.Config.Image}} {{range .Mounts}}{{if eq .Type "volume"}}{{.Name}} {{end}}{{end}}'
    label = f"--filter=label=devcontainer.local_folder={workspace}"
    for container in docker("ps", "--all", "--quiet", label).split():
        image, *volumes = docker("inspect", "--format", format_, container).split()
        docker("rm", "--force", "--volumes", container)
        docker.run("volume", "rm", *volumes)
        docker("image", "rm", "--force", image, image.removesuffix("-uid"))


def test_a_user_works_with_docker_inside(devcontainer: Devcontainer, base: Built) -> None:
    inside = devcontainer.inside
    assert inside("id", "--user", "--name") == "dev"
    assert "docker" in inside("id", "--groups", "--name").split()
    assert inside("docker", "info", "--format", "{{.ID}}") != devcontainer.docker(
        "info", "--format", "{{.ID}}"
    )
    inside("docker", "load", stdin=base.archive)

    greeting = (devcontainer.workspace / "greeting.txt").read_text().strip()
    inside("docker", "build", "--quiet", "--tag=hello", ".")
    assert inside("docker", "run", "--rm", "hello") == greeting
    inside("docker", "buildx", "build", "--quiet", "--no-cache", "--tag=hello:again", ".")
    assert "running" in inside("docker", "buildx", "ls")
    # compose.yaml reads the greeting from the workspace folder, not from the image.
    (devcontainer.workspace / "greeting.txt").write_text("changed since the build\n")
    said = inside("docker", "compose", "up", "--no-color", "--exit-code-from=hello")
    assert "changed since the build" in said

    files = [path.name for path in devcontainer.workspace.iterdir()]
    listing = 'docker run --rm --volume "$PWD:/mnt" hello ls -A /mnt'
    assert inside("sh", "-c", listing).split() == sorted(files)
    inside("sh", "-c", 'docker run --rm --volume "$PWD:/mnt" hello sh -c "echo inside > /mnt/made"')
    assert (devcontainer.workspace / "made").read_text() == "inside\n"


def test_the_user_owns_what_the_first_user_of_the_host_owns(devcontainer: Devcontainer) -> None:
    """The workspace belongs to uid 1000; nobody here lends a hand as root."""
    devcontainer.inside("sh", "-c", "echo by hand > made-by-dev && mkdir folder && rm greeting.txt")
    made = devcontainer.workspace / "made-by-dev"
    assert (made.read_text(), made.stat().st_uid) == ("by hand\n", UID)
    assert not (devcontainer.workspace / "greeting.txt").exists()
