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
from tests.engine.dind import Bench

pytestmark = pytest.mark.engine

OPEN = (
    "import sys; from dindkit.tools import shell; from dindkit.progress import Progress;"
    "from dindkit.project import Project; sys.exit(shell.run(Project.here(), Progress()))"
)


def open_shell(
    project: Project, engine: Engine, stdin: int, stdout: int, folder: Path
) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "DINDKIT_STATE": str(project.state),
        "DOCKER_HOST": engine.host,
        "PYTHONPATH": str(project.root),
    }
    return subprocess.Popen(
        [sys.executable, "-c", OPEN],
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
    make: Bench, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = make.daemon(environment={"DOCKER_TLS_CERTDIR": ""})
    monkeypatch.setenv("DOCKER_HOST", f"tcp://{daemon.address}:2375")
    with pytest.raises(EngineError, match=f"does not see {tmp_path}"):
        shell.run(project, Progress(quiet=True), tmp_path)


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
