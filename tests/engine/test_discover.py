"""Finding an engine: the first that answers, and where it was found."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from docker.context import ContextAPI

from dindkit.engine import discover, sockets
from dindkit.engine.discover import Engine
from dindkit.errors import EngineError
from dindkit.project import Project

pytestmark = pytest.mark.engine


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Take away whatever this machine's user has configured; sockets are looked for below this path."""
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "config"))
    (tmp_path / "config").mkdir()
    (tmp_path / "config/config.json").write_text("{}")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_docker_host(engine: Engine, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", engine.host)
    found = discover.find(project)
    assert found is not None
    assert (found.host, found.found_by) == (engine.host, "DOCKER_HOST")
    assert found.client.info()["ID"] == engine.client.info()["ID"]


def test_a_docker_host_without_an_engine_is_an_error(
    engine: Engine, project: Project, nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{nowhere}/none")
    with pytest.raises(EngineError, match=r"DOCKER_HOST.*No such file.*unset DOCKER_HOST") as error:
        discover.find(project)
    with pytest.raises(EngineError) as sooner:
        sockets.require_named()
    assert str(sooner.value) == str(error.value)


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("tcp://127.0.0.1:abc", "Port could not be cast"),
        ("tcp://127.0.0.1:999999", "Port out of range"),
        ("tcp://[::1", "Invalid IPv6 URL"),
    ],
)
def test_a_docker_host_that_is_no_address(
    engine: Engine, project: Project, monkeypatch: pytest.MonkeyPatch, host: str, said: str
) -> None:
    monkeypatch.setenv("DOCKER_HOST", host)
    with pytest.raises(EngineError, match=rf"DOCKER_HOST: no engine answers at .*{said}.*unset DOCKER_HOST"):
        discover.find(project)


def test_an_engine_that_says_nothing(engine: Engine, nowhere: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(nowhere / "quiet"))
        listening.listen()
        with pytest.raises(EngineError, match=r"quiet \(it does not answer in time\)"):
            discover.connect(f"unix://{nowhere}/quiet", "DOCKER_HOST", patience=0.5)


def test_a_configuration_that_selects_no_name(engine: Engine, project: Project, nowhere: Path) -> None:
    (nowhere / "config/config.json").write_text('{"currentContext": 5}')
    with pytest.raises(EngineError, match="selects a context that cannot be read"):
        discover.find(project)


def test_the_current_context(engine: Engine, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    ContextAPI.create_context("mine", host=engine.host)
    assert found_by(project) != "the current Docker context mine"
    ContextAPI.set_current_context("mine")
    assert found_by(project) == "the current Docker context mine"
    found = discover.find(project)
    assert found is not None
    assert found.host == engine.host  # as everybody else writes it: sockets are mounted by it
    ContextAPI.set_current_context("default")
    monkeypatch.setenv("DOCKER_CONTEXT", "mine")
    assert found_by(project) == "DOCKER_CONTEXT mine"
    monkeypatch.setenv("DOCKER_CONTEXT", "other")
    with pytest.raises(EngineError, match="no context other"):
        discover.find(project)


def test_a_context_that_is_switched_off_is_passed_over(
    engine: Engine, project: Project, nowhere: Path
) -> None:
    ContextAPI.create_context("desktop", host=f"unix://{nowhere}/desktop.sock")
    ContextAPI.set_current_context("desktop")
    assert found_by(project) != "the current Docker context desktop"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("docker.sock", "rootless Docker's socket"), ("podman/podman.sock", "rootless Podman's socket")],
)
def test_the_usual_sockets(engine: Engine, project: Project, nowhere: Path, name: str, expected: str) -> None:
    if not engine.host.startswith("unix://") or Path("/var/run/docker.sock").exists():
        assert found_by(project) == "Docker's socket"  # which comes first
        return
    (nowhere / name).parent.mkdir(exist_ok=True)
    (nowhere / name).symlink_to(engine.host.removeprefix("unix://"))
    assert found_by(project) == expected


def test_a_socket_that_nobody_listens_on_is_passed_over(
    engine: Engine, project: Project, nowhere: Path
) -> None:
    os.mkfifo(nowhere / "docker.sock")
    assert found_by(project) != "rootless Docker's socket"


def found_by(project: Project) -> str:
    found = discover.find(project)
    return found.found_by if found else "nowhere"
