"""The image `devcontainer`: what its user finds there, and the template that brings it into a project."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dindkit.engine import load
from dindkit.engine.discover import Engine
from dindkit.image.build import Built
from dindkit.progress import Progress
from dindkit.project import Project
from tests.examples.conftest import EXAMPLES
from tests.examples.devcontainer import Devcontainer, give, remove
from tests.examples.docker import Docker
from tests.support.registry import serve
from tests.support.suites import build_image

pytestmark = pytest.mark.engine

TEMPLATE = EXAMPLES / "devcontainer-template" / "docker-in-docker"


@pytest.fixture(scope="module")
def image(project: Project, engine: Engine, progress: Progress, pytestconfig: pytest.Config) -> Built:
    built = build_image(project, "devcontainer", pytestconfig.getoption("--suite"), progress)
    load.load(engine, built, progress)
    return built


@pytest.fixture(scope="module")
def here(
    devcontainer_cli: Path, docker: Docker, image: Built, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Devcontainer]:
    """Yield a devcontainer whose configuration is the template, published to and applied from a registry."""
    folder = tmp_path_factory.mktemp("template")
    workspace = folder / "workspace"
    workspace.mkdir()
    with serve(folder / "registry") as registry:
        # The command line speaks TLS to every host but this name.
        host = registry.host.replace("127.0.0.1", "localhost")
        templates = f"{host}/dindkit/templates"
        publish = ["publish", f"--registry={host}", "--namespace=dindkit/templates", str(TEMPLATE)]
        apply = [
            *("apply", f"--workspace-folder={workspace}", f"--template-id={templates}/docker-in-docker"),
            f'--template-args={{"image": "{image.reference}"}}',
        ]
        for words in (publish, apply):
            command = [str(devcontainer_cli), "templates", *words]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
    assert image.reference in (workspace / ".devcontainer" / "devcontainer.json").read_text()
    give(workspace, 1000)
    made = Devcontainer(devcontainer_cli, docker, workspace)
    try:
        assert made.up()["remoteUser"] == "vscode"
        yield made
    finally:
        remove(docker, workspace)


def test_the_user_works_with_docker(here: Devcontainer, base: Built, base_archive: Path) -> None:
    assert here.inside("id", "--user", "--name") == "vscode"
    assert "docker" in here.inside("id", "--groups", "--name").split()
    here.inside("docker", "load", stdin=base_archive)
    command = f"docker run --rm --volume $PWD:/here {base.reference} sh -c 'echo nested >/here/made'"
    here.inside("sh", "-c", command)
    assert (here.workspace / "made").read_text() == "nested\n"


def test_the_user_may_become_root(here: Devcontainer) -> None:
    assert here.inside("sudo", "-n", "id", "--user") == "0"


def test_the_workspace_and_home_are_the_users(here: Devcontainer) -> None:
    here.inside("sh", "-ec", "echo mine >by-hand; echo >>~/.bashrc; mkdir ~/.config")
    made = here.workspace / "by-hand"
    assert (made.read_text(), made.stat().st_uid) == ("mine\n", 1000)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("git --version", "git version"),
        ("ssh -V 2>&1", "OpenSSH"),
        ("less --version", "less "),
        ("gpg --version", "GnuPG"),
        ("ps -o comm= -p $$", "sh"),
        ("locale charmap", "UTF-8"),
        ("sudo sh -c 'sed -i s/^#.en_US.UTF-8/en_US.UTF-8/ /etc/locale.gen; locale-gen'", "complete"),
        ("docker compose version", "Docker Compose"),
    ],
)
def test_what_editors_and_people_call_is_there(here: Devcontainer, command: str, said: str) -> None:
    assert said in here.inside("sh", "-ec", command)


def test_a_shell_has_a_prompt(here: Devcontainer) -> None:
    assert r"\u@\h" in here.inside("bash", "-ic", "echo $PS1")


def test_another_user_comes_after_them(docker: Docker, image: Built) -> None:
    """The next user of an image that begins with this one, as useradd counts."""
    command = "useradd next && id --user next"
    assert docker("run", "--rm", "--entrypoint=sh", image.reference, "-c", command) == "1001"
