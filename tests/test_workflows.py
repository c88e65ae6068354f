"""The steps of the workflows, run as the forge runs them, on this machine.

The forge's own is stood in for: its actions (a copy of the checkout is there already, and what is uploaded
must be there), the values of its expressions, `gh`, and sudo, where root needs none. So is `docker login`, as
tests run where no docker is installed. Everything else is real: the verbs, git, a registry on loopback that
wants a login.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from dindkit.engine.discover import Engine
from dindkit.project import Project
from tests.registry.conftest import PASSWORD, USER, StartRegistry, start_registry
from tests.test_installed import copy_checkout

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))

__all__ = ["start_registry"]  # a fixture

SUDO = '#!/bin/sh\nwhile [ "${1#--}" != "$1" ]; do shift; done\nexec "$@"\n'
GH = '#!/bin/sh\nprintf "%s\\n" "$@" >"$ASKED"\ncat >"$ASKED.body"\n'
#: Writes what `docker login` does: docker/cli, cli/config/configfile.
DOCKER = """#!/bin/sh
[ "$1 $2 $4" = "login --username --password-stdin" ] || exit 9
login=$({ printf '%s:' "$3"; cat; } | base64 -w0)
printf '{"auths": {"%s": {"auth": "%s"}}}' "$5" "$login" >"$DOCKER_CONFIG/config.json"
"""
#: Steps that are not run here: the name of each, and why.
LEFT_OUT = {
    "What the README takes for granted": "it installs packages on the machine",
    "Lint, build, smoke and every test": "it is what runs this test",
}


def load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / f".github/workflows/{name}.yml").read_text())
    return found


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_step_whose_first_program_fails_fails(workflow: Path) -> None:
    """The forge's default is `bash -e` without pipefail; with `shell: bash` it is `bash -eo pipefail`."""
    assert load(workflow.stem)["defaults"]["run"]["shell"] == "bash"


@dataclass
class Forge:
    """A copy of the checkout in a repository with a remote, and the values of the forge's expressions."""

    folder: Path
    values: dict[str, str]
    environment: dict[str, str]

    def filled(self, text: str) -> str:
        """Return `text` with its expressions' values. Raises KeyError for one that nobody stands in for."""
        return re.sub(r"\$\{\{ *(.*?) *\}\}", lambda found: self.values[found[1]], text)

    def run(self, workflow: str, job: str) -> list[str]:
        """Run the steps of a job; return the names of those that ran."""
        whole = load(workflow)
        described = whole["jobs"][job]
        shared = whole.get("env", {}) | described.get("env", {})
        ran = []
        for step in described["steps"]:
            if step.get("uses", "").startswith("actions/upload-artifact@"):
                assert (self.folder / step["with"]["path"]).exists(), step
            if "run" not in step or step["name"] in LEFT_OUT:
                continue
            own = {name: self.filled(str(text)) for name, text in (shared | step.get("env", {})).items()}
            done = subprocess.run(
                ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", self.filled(step["run"])],
                cwd=self.folder,
                env=self.environment | {name: text for name, text in own.items() if name != "DINDKIT_CACHE"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"{step['name']}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
            ran.append(step["name"])
        return ran


@pytest.fixture
def forge(engine: Engine, project: Project, tmp_path: Path) -> Forge:
    folder = copy_checkout(tmp_path / "dindkit")
    (folder / ".venv").symlink_to(ROOT / ".venv")
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, text in (("sudo", SUDO), ("gh", GH), ("docker", DOCKER)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org"]
    remote = tmp_path / "remote"
    subprocess.run(["git", "init", "--quiet", "--bare", remote], check=True)
    for words in (
        ["init", "--quiet", "--initial-branch=main"],
        ["add", "."],
        ["commit", "-qm", "x"],
        ["remote", "add", "origin", str(remote)],
    ):
        subprocess.run([*git, *words], cwd=folder, check=True)
    environment = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "DINDKIT_STATE": str(project.state),
        "DOCKER_HOST": engine.host,
        "DOCKER_CONFIG": str(tmp_path),
        "ASKED": str(tmp_path / "asked"),
    }
    return Forge(folder, {}, environment)


@pytest.mark.full
def test_a_release_is_built_verified_and_pushed_with_its_bill_of_materials(
    forge: Forge, start_registry: StartRegistry
) -> None:
    server = start_registry(users=True)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    log = forge.folder / "CHANGELOG.md"
    log.write_text(log.read_text().replace("## [Unreleased]", f"## [Unreleased]\n\n## [{version}] - today"))
    forge.values = {
        "vars.REGISTRY": f"{server.host}/team",
        "github.ref_name": f"v{version}",
        "github.actor": USER,
        "github.token": PASSWORD,
    }
    assert len(forge.run("release", "release")) == 5
    packages = json.loads((forge.folder / "dind.spdx.json").read_text())["packages"]
    assert "docker.io" in [one["name"] for one in packages]
    requests = server.requests()
    assert f"PUT /v2/team/dind/manifests/{version}" in requests
    assert (
        len([one for one in requests if one.startswith("PUT /v2/team/dind/manifests/")]) > 1
    )  # the referrer


@pytest.mark.full
def test_a_weekly_lock_is_proven_and_proposed_with_its_table(forge: Forge, tmp_path: Path) -> None:
    """An older version in the committed lock stands for an archive that has moved on."""
    forge.values = {"github.token": PASSWORD}
    before = (forge.folder / "images/base/trixie-amd64.lock").read_text()
    assert len(forge.run("lock", "lock")) == 3
    if (forge.folder / "images/base/trixie-amd64.lock").read_text() == before:
        pytest.skip("the archive has nothing newer than the committed locks")
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked[:3] == ["pr", "create", "--head"]
    assert "-> " in (tmp_path / "asked.body").read_text()
    pushed = subprocess.run(
        ["git", "show", "--stat", asked[3]],
        cwd=tmp_path / "remote",
        capture_output=True,
        text=True,
        check=True,
    )
    assert "images/base/trixie-amd64.lock" in pushed.stdout


@pytest.mark.full
@pytest.mark.parametrize("job", ["build", "docs", "gate"])
def test_a_change_is_built_and_its_site_too(forge: Forge, job: str) -> None:
    forge.values = {"matrix.architecture": "amd64"}
    assert len(forge.run("ci", job)) == (0 if job == "gate" else 1)
