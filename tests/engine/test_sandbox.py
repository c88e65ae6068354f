"""Maintainer scripts on an engine of the user's choice: `--builder`."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from docker.context import ContextAPI

import tasks  # noqa: F401 - the commands are what makes engines known to builds
from dindkit.engine.discover import Engine
from dindkit.errors import EngineError
from dindkit.image import rebuild, seal
from dindkit.image.build import build
from dindkit.image.build_options import BuildOptions
from dindkit.progress import Progress
from dindkit.sandbox.namespaces import Namespaces
from tests.support.local_project import LocalProject

OPTIONS = BuildOptions(image="app")
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def contexts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Take this user's contexts away."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "config.json").write_text("{}")


@contextmanager
def standing_in(architecture: str) -> Iterator[str]:
    """Yield the address of a stand-in for an engine of that architecture: it tells of itself, no more."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told = {"ApiVersion": "1.45", "MinAPIVersion": "1.24", "Architecture": architecture}
            said = json.dumps(told).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"tcp://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("by", ["context", "address"])
def test_the_image_is_that_of_this_machines_namespaces(
    engine: Engine,
    small_project: LocalProject,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    by: str,
) -> None:
    """And it is verified there as well: no namespace of this machine has a part in it."""
    seal.seal(small_project.project, OPTIONS, Progress(small_project.said))
    here = small_project.build()
    ContextAPI.create_context("farm", host=engine.host)
    builder = "farm" if by == "context" else engine.host
    monkeypatch.setattr(Namespaces, "run", lambda *_: pytest.fail("a namespace was asked for"))
    elsewhere = replace(small_project.project, state=tmp_path / "state")
    options = replace(OPTIONS, builder=builder, architecture=OPTIONS.target, frozen=True)
    said = io.StringIO()
    assert build(elsewhere, options, Progress(said)).image_id == here.image_id
    found_by = "--builder farm" if by == "context" else "--builder"
    assert said.getvalue().count(f"sandbox: a container on {engine.host} ({found_by}).\n") == 1
    assert rebuild.rebuild(elsewhere, options, Progress(said)).image_id == here.image_id


@pytest.mark.parametrize(
    ("machine", "name"), [("aarch64", "aarch64"), ("riscv64", "riscv64"), ("", "a machine it does not name")]
)
def test_an_engine_of_another_architecture_is_refused(
    small_project: LocalProject, tmp_path: Path, machine: str, name: str
) -> None:
    elsewhere = replace(small_project.project, state=tmp_path / "state", cache=tmp_path / "cache")
    target = OPTIONS.target
    if machine == "aarch64" and target == "arm64":
        machine = name = "x86_64"
    with standing_in(machine) as address:
        refused = f"^The engine at {address} runs on {name}, and the image is for {target}. Name an engine of"
        with pytest.raises(EngineError, match=refused):
            build(elsewhere, replace(OPTIONS, builder=address), Progress(quiet=True))
    assert not list(tmp_path.glob("cache/sha256/*")), "what cannot be built was downloaded"


def test_a_builder_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "dindkit.command_line", "--search-root", str(ROOT)]
    environment = {**os.environ, "DINDKIT_STATE": str(tmp_path / "state"), "PYTHONPATH": str(ROOT)}
    for builder, sentence in {
        "nobody": "error: --builder: there is no context nobody. See: docker context ls\n",
        f"unix://{tmp_path}/none": f"error: --builder: no engine answers at unix://{tmp_path}/none "
        "(No such file or directory).\n",
    }.items():
        build = [*words, "build", "--image", "base", "--builder", builder]
        done = subprocess.run(build, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (1, "", sentence)
