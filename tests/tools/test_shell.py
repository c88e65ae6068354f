"""The shell one level down: what is typed runs there, with Docker ready, and nothing stays."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from dindkit import leftovers
from dindkit.engine.discover import Engine
from dindkit.errors import EngineError
from dindkit.image.build import Built
from dindkit.progress import Progress
from dindkit.project import Project
from dindkit.tools import shell
from tests.engine.dind import Containers

pytestmark = pytest.mark.engine

OPEN = (
    "import sys; from pathlib import Path; from dindkit.tools import shell;"
    "from dindkit.progress import Progress; from dindkit.project import Project;"
    "words = [Path(sys.argv[1]), sys.argv[2]] if sys.argv[1:] else [];"
    "sys.exit(shell.run(Project.here(), Progress(), *words))"
)


def open_shell(
    project: Project, engine: Engine, stdin: int, stdout: int, folder: Path, *words: str
) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "DINDKIT_STATE": str(project.state),
        "DOCKER_HOST": engine.host,
        "PYTHONPATH": str(project.root),
    }
    return subprocess.Popen(
        [sys.executable, "-c", OPEN, *words],
        cwd=folder,
        env=environment,
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.DEVNULL,
    )


def gone(engine: Engine) -> bool:
    return not engine.client.containers.list(all=True, filters={"label": f"{leftovers.KIND}=shell"})


def test_commands_from_a_pipe(engine: Engine, project: Project, base: Built, tmp_path: Path) -> None:
    (tmp_path / "question").write_text("the folder is here")
    typed = f"docker run --rm -v /app:/app {base.reference} cat /app/question; echo; exit 7\n"
    with open_shell(project, engine, subprocess.PIPE, subprocess.PIPE, tmp_path) as process:
        out, _ = process.communicate(typed.encode())
    assert "the folder is here" in out.decode()
    assert process.returncode == 7
    assert gone(engine)


def test_a_folder_that_the_engine_does_not_see(
    containers: Containers, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = containers.daemon(environment={"DOCKER_TLS_CERTDIR": ""}).load(containers.base)
    monkeypatch.setenv("DOCKER_HOST", f"tcp://{daemon.address}:2375")
    with pytest.raises(EngineError, match=f"does not see {tmp_path}"):
        shell.run(project, Progress(quiet=True), tmp_path, image="base")


def test_commands_from_a_terminal(engine: Engine, project: Project, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with open_shell(project, engine, theirs, theirs, tmp_path) as process:
        os.close(theirs)
        seen = b""
        while b"/app#" not in seen:
            seen += os.read(ours, 4096)
        os.write(ours, b"test -t 0 && docker info --format 'level {{.ServerVersion}}'; exit 5\n")
        try:
            while chunk := os.read(ours, 4096):
                seen += chunk
        except OSError:  # how a terminal says that the other side has gone
            pass
    os.close(ours)
    assert b"level 2" in seen
    assert process.returncode == 5
    assert gone(engine)


def test_another_folder_and_another_image(
    engine: Engine, project: Project, dind: Built, tmp_path: Path
) -> None:
    (tmp_path / "service").mkdir()
    (tmp_path / "service" / "question").write_text("another folder")
    engine.client.images.get(dind.reference).tag("dindkit/derived", "test")
    typed = b"cat /app/question; docker version --format up; exit 3\n"
    try:
        with open_shell(
            project, engine, subprocess.PIPE, subprocess.PIPE, tmp_path, "service", "dindkit/derived:test"
        ) as process:
            out, _ = process.communicate(typed, timeout=120)
    finally:
        engine.client.images.remove("dindkit/derived:test")
    assert process.returncode == 3
    assert out.decode().endswith("another folderup\n")
    assert gone(engine)


def test_an_image_that_is_none_of_ours_is_a_sentence(
    engine: Engine, project: Project, base: Built, tmp_path: Path
) -> None:
    with pytest.raises(EngineError, match=r"^A shell in dindkit/base:trixie does not start: .*with-dockerd"):
        shell.run(project, Progress(quiet=True), tmp_path, base.reference)
    with pytest.raises(EngineError, match="is no name of an image: invalid reference format"):
        shell.run(project, Progress(quiet=True), tmp_path, "bad name")
    assert gone(engine)


def test_a_folder_that_is_none(project: Project, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "none"):
        with pytest.raises(EngineError, match=f"{path} is no folder of this machine"):
            shell.run(project, Progress(quiet=True), path)
