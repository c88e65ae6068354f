"""Each verb with `--json`, on a project of two tiny images: what it prints is what its schema describes."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dindkit.command_line.program import Commands
from dindkit.interrupts import ENDS
from dindkit.project import Project
from tests.support import registry, schemas
from tests.support.archive import KeyRing
from tests.support.local_project import LocalProject
from tests.support.tiny_project import tiny_project

ROOT = Path(__file__).parents[1]

#: Runs a verb; returns its document, checked against its schema, and its exit code.
Run = Callable[..., tuple[dict[str, Any], int]]


@pytest.fixture(scope="module")
def tiny(key_ring: KeyRing, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalProject]:
    with tiny_project(tmp_path_factory.mktemp("tiny"), key_ring) as made:
        yield made


@pytest.fixture
def run(tiny: LocalProject, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setattr(Project, "here", lambda *_words: tiny.project)
    monkeypatch.setenv("DOCKER_HOST", "unix:///nobody/listens")

    def go(*words: str) -> tuple[dict[str, Any], int]:
        capfd.readouterr()
        handlers = {number: signal.getsignal(number) for number in ENDS}
        code = 0
        try:
            Commands().run(["invoke", "--search-root", str(ROOT), *words, "--json"])
        except SystemExit as ended:
            code = int(ended.code or 0)
        finally:
            for number, handler in handlers.items():  # at its end the program ignores signals
                signal.signal(number, handler)
        out, err = capfd.readouterr()
        document = schemas.check(words[0], json.loads(out))
        assert document["ok"] == (code == 0), err
        return document, code

    return go


def test_build(run: Run, tiny: LocalProject, tmp_path: Path) -> None:
    words = ("build", "--image", "app", "--tag", "team/app:1", "--tag", "app", "--output")
    found, _ = run(*words, str(tmp_path / "app.tar"))
    assert found["error"] is None
    built = tiny.build()
    result = found["result"]
    assert (result["reference"], result["image_id"]) == ("dindkit/app:trixie", built.image_id)
    assert result["tags"] == ["team/app:1", "app:latest"]
    assert (result["loaded_into"], result["packages"]) == (None, 2)
    assert [one["source"] for one in result["layers"]] == ["base packages", "app packages"]
    assert result["output"]["type"] == "docker"
    assert [one["title"] for one in result["steps"]][-1] == "compress dindkit/app:trixie"
    assert "DOCKER_HOST: no engine answers" in found["warnings"][0]
    inspected = subprocess.run(
        ["skopeo", "inspect", "--format", "{{.Digest}}", f"oci-archive:{tmp_path}/app.tar:latest"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert inspected.stdout.strip() == result["output"]["manifest"]
    again, _ = run("build", "--image", "app")
    assert (again["result"]["image_id"], again["result"]["output"]) == (built.image_id, None)


def test_a_failed_build(run: Run, tmp_path: Path) -> None:
    found, code = run("build", "--image", "app", "--output", f"type=oci,dest={tmp_path}/no/app,tar=false")
    assert (found["result"], code) == (None, 1)
    assert "there is no folder" in found["error"]["cause"]
    found, code = run("build", "--image", "app", "--output", "-")
    assert "would both go to standard output" in found["error"]["cause"]
    assert code == 1


def test_lock_and_seal(run: Run, tiny: LocalProject) -> None:
    same, _ = run("lock", "--image", "app")
    assert [one["written"] for one in same["result"]["locks"]] == [False, False]
    tiny.archive.add_deb("greeter", "2.0", files={"usr/bin/greet": "#!/bin/sh\necho again\n"})
    tiny.publish()
    found, _ = run("lock", "--image", "app")
    (app,) = [one for one in found["result"]["locks"] if one["image"] == "app"]
    assert app["changes"] == [{"name": "greeter", "kind": "upgraded", "old": "1.0", "new": "2.0"}]
    assert (app["written"], app["new"], app["image_id"], app["packages"]) == (True, False, None, 1)
    sealed, _ = run("lock", "--seal", "--image", "app")
    (app,) = [one for one in sealed["result"]["locks"] if one["image"] == "app"]
    assert app["image_id"] == tiny.build().image_id
    assert (
        app["identity"] == next(one for one in found["result"]["locks"] if one["image"] == "app")["identity"]
    )


def test_verify(run: Run, tiny: LocalProject, tmp_path: Path) -> None:
    run("lock", "--seal", "--image", "app")
    found, _ = run("verify", "--recipe", "app")
    assert (found["result"]["equal"], found["result"]["image_id"]) == (True, tiny.build().image_id)
    run("build", "--image", "base", "--output", str(tmp_path / "base.tar"))
    found, code = run("verify", "--recipe", "app", "--image", str(tmp_path / "base.tar"))
    assert (found["result"]["equal"], found["result"]["image_id"], code) == (False, None, 1)
    assert "usr/bin/greet" in {one["path"] for one in found["result"]["differences"]}
    assert "differs from what its lock builds" in found["error"]["cause"]


def test_audit(run: Run, tmp_path: Path) -> None:
    found, _ = run("audit", "--image", "app", "--html", str(tmp_path / "page.html"))
    assert {one["name"] for one in found["result"]["packages"]} == {"tiny", "greeter"}
    assert (tmp_path / "page.html").stat().st_size > 1000


def test_push(run: Run, tmp_path: Path) -> None:
    with registry.serve(tmp_path / "registry") as served:
        server = served.host
        found, _ = run("push", f"{server}/team/app:1", "--image", "app")
        assert found["result"]["reference"] == f"{server}/team/app:1"
        raw = subprocess.run(
            ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{server}/team/app:1"],
            capture_output=True,
            check=True,
        )
    assert found["result"]["digest"] == f"sha256:{hashlib.sha256(raw.stdout).hexdigest()}"


def test_list_and_version(run: Run, tiny: LocalProject) -> None:
    run("build", "--image", "app")
    found, _ = run("list")
    images = {one["reference"]: one for one in found["result"]["images"] if one["lock"]}
    assert images["dindkit/app:trixie"]["image_id"] == tiny.build().image_id
    assert Path(images["dindkit/app:trixie"]["lock"]).is_file()
    found, _ = run("version")
    assert {(one["image"], one["suite"]) for one in found["result"]["locks"]} == {
        ("app", "trixie"),
        ("base", "trixie"),
    }


def test_doctor_without_an_engine(run: Run) -> None:
    found, code = run("doctor")
    assert (found["error"]["kind"], code) == ("engine", 1)
    assert os.uname().nodename in found["result"]["facts"]["this machine"]


def test_bench_and_smoke_of_nothing(run: Run) -> None:
    found, code = run("bench", "bot")
    assert (found["error"]["kind"], found["result"], code) == ("other", None, 1)
    found, code = run("smoke", "--topology", "ring")
    assert (found["error"]["kind"], found["result"], code) == ("engine", None, 1)
