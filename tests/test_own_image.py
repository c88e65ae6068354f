"""An image of one's own, over dind: what docs/recipes.md promises of the verbs that take its path."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from dindkit.engine.discover import Engine
from dindkit.project import Project
from tests.registry.conftest import StartRegistry, start_registry

ROOT = Path(__file__).parents[1]

__all__ = ["start_registry"]  # a fixture


@pytest.mark.full
def test_an_image_of_ones_own_from_verify_to_push(
    engine: Engine, project: Project, start_registry: StartRegistry, tmp_path: Path
) -> None:
    server = start_registry()
    environment = {**os.environ, "DINDKIT_STATE": str(project.state), "DOCKER_HOST": engine.host}

    def dindkit(*words: str, typed: str = "") -> str:
        done = subprocess.run(
            [ROOT / "scripts/invoke", *words],
            cwd=tmp_path,
            env=environment,
            input=typed,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    dindkit("init", "my runner", "--parent", "dind", "--package", "make")
    greet = tmp_path / "my runner/rootfs/usr/local/bin/greet"
    greet.parent.mkdir(parents=True)
    greet.write_text("#!/bin/sh\necho hello from make $(make --version | head -1)\n")
    greet.chmod(0o755)
    dindkit("lock", "./my runner")
    image_id = json.loads(dindkit("build", "./my runner", "--json", "--quiet"))["result"]["image_id"]
    dindkit("lock", "./my runner", "--seal")
    assert "equal" in dindkit("verify", "./my runner")
    assert "equal" in dindkit("verify", "./my runner", "--image", "dindkit/my-runner:trixie")
    changes = json.loads(
        dindkit("audit", "./my runner", "--against", "dindkit/dind:trixie", "--json", "--quiet")
    )["result"]
    assert ["make", "added"] in [[one["name"], one["change"]] for one in changes["packages"]]
    assert "/usr/local/bin/greet" in [one["path"] for one in changes["files"]]
    names = [one["name"] for one in json.loads(dindkit("sbom", "./my runner"))["packages"]]
    assert "make" in names
    assert "hello from make GNU Make" in dindkit("shell", "./my runner", typed="greet\n")
    assert "hello from level 2" in dindkit("smoke", "./my runner")
    reference = f"{server.host}/team/my-runner:trixie"
    assert f"pushed {reference} sha256:" in dindkit("push", "./my runner", reference)
    shown = ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{reference}"]
    top = json.loads(subprocess.run(shown, check=True, capture_output=True).stdout)
    (manifest,) = [one["digest"] for one in top.get("manifests", [])] or [""]
    if manifest:
        shown[-1] = f"docker://{server.host}/team/my-runner@{manifest}"
        top = json.loads(subprocess.run(shown, check=True, capture_output=True).stdout)
    assert top["config"]["digest"] == image_id
