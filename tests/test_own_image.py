"""An image of one's own, over dind: what docs/recipes.md promises of the verbs that take its path."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from dindkit.engine.discover import Engine
from dindkit.project import Project
from tests.registry.conftest import StartRegistry, start_registry

ROOT = Path(__file__).parents[1]
RECIPE = "./my runner"

__all__ = ["start_registry"]  # a fixture

pytestmark = pytest.mark.full


@dataclass(frozen=True)
class Own:
    """A folder with a recipe that is locked, built, sealed, and loaded into the engine."""

    folder: Path
    environment: dict[str, str]

    def __call__(self, *words: str, typed: str = "") -> str:
        """Run a verb, and return what it prints on standard output."""
        done = subprocess.run(
            [ROOT / "scripts/invoke", *words],
            cwd=self.folder,
            env=self.environment,
            input=typed,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def own(engine: Engine, project: Project, tmp_path_factory: pytest.TempPathFactory) -> Own:
    environment = {**os.environ, "DINDKIT_STATE": str(project.state), "DOCKER_HOST": engine.host}
    made = Own(tmp_path_factory.mktemp("own"), environment)
    made("init", "my runner", "--parent", "dind", "--package", "make")
    greet = made.folder / "my runner/rootfs/usr/local/bin/greet"
    greet.parent.mkdir(parents=True)
    greet.write_text("#!/bin/sh\necho hello from make $(make --version | head -1)\n")
    greet.chmod(0o755)
    made("lock", RECIPE)
    made("build", RECIPE)
    made("lock", RECIPE, "--seal")
    return made


def test_it_is_run_and_pushed(own: Own, start_registry: StartRegistry) -> None:
    server = start_registry()
    image_id = json.loads(own("build", RECIPE, "--frozen", "--json", "--quiet"))["result"]["image_id"]
    assert "hello from make GNU Make" in own("shell", RECIPE, typed="greet\n")
    assert own("smoke", RECIPE).startswith("nested: passed on ")
    reference = f"{server.host}/team/my-runner:trixie"
    assert f"pushed {reference} sha256:" in own("push", RECIPE, reference)
    shown = ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{reference}"]
    top = json.loads(subprocess.run(shown, check=True, capture_output=True).stdout)
    if "manifests" in top:
        shown[-1] = f"docker://{server.host}/team/my-runner@{top['manifests'][0]['digest']}"
        top = json.loads(subprocess.run(shown, check=True, capture_output=True).stdout)
    assert top["config"]["digest"] == image_id


def test_it_is_verified_and_reviewed(own: Own) -> None:
    assert "equal" in own("verify", RECIPE)
    assert "equal" in own("verify", RECIPE, "--image", "dindkit/my-runner:trixie")
    told = own("audit", RECIPE, "--against", "dindkit/dind:trixie", "--json", "--quiet")
    changes = json.loads(told)["result"]
    assert ["make", "added"] in [[one["name"], one["change"]] for one in changes["packages"]]
    assert "/usr/local/bin/greet" in [one["path"] for one in changes["files"]]
    assert "make" in [one["name"] for one in json.loads(own("sbom", RECIPE))["packages"]]
