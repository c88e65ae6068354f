"""What the doctor tells is so, and a folder that the engine does not see is named before it hurts."""

from __future__ import annotations

import io
import os
import platform
import re
import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dindkit import json_document
from dindkit.engine.discover import Engine
from dindkit.errors import EngineError
from dindkit.image.build import Built
from dindkit.image.expected_ids import ids_of
from dindkit.progress import Progress
from dindkit.project import Project
from dindkit.tools import doctor
from tests.engine.dind import Containers
from tests.support import schemas

pytestmark = pytest.mark.engine


def told(project: Project, mount: str = "") -> str:
    stream = io.StringIO()
    doctor.run(project, Progress(quiet=True), stream, mount)
    return stream.getvalue()


@pytest.fixture
def folder(project: Project) -> Iterator[Path]:
    """Give a folder that this machine and the engine share, as state must be."""
    made = project.state / f"doctor-{secrets.token_hex(3)}"
    made.mkdir()
    yield made
    for path in made.iterdir():
        path.unlink()
    made.rmdir()


def test_it_describes_the_engine(engine: Engine, project: Project) -> None:
    info = engine.client.info()
    text = told(project)
    assert platform.release() in text
    assert f"Docker {info['ServerVersion']} at {engine.host}" in text
    assert f"version {info['CgroupVersion']}" in text
    assert info["Driver"] in text
    assert re.search(r"^DNS +\S", text, re.MULTILINE)
    assert "it holds Docker's rules" in text
    assert ("has no IPVS" in text) == (not Path("/proc/net/ip_vs").exists())


def test_what_is_found_is_there_for_machines(engine: Engine, project: Project) -> None:
    found: dict[str, Any] = {}
    stream = io.StringIO()
    doctor.run(project, Progress(quiet=True), stream, found=found)
    assert not stream.getvalue()
    schemas.check("doctor", json_document.document("doctor", found, None, ()))
    assert found["facts"]["storage"].startswith(engine.client.info()["Driver"])
    assert found["facts"]["privileged"].startswith("yes")
    assert all(isinstance(one, str) for one in found["warnings"])


def test_an_image_that_the_engine_has_is_not_built(
    engine: Engine, dind: Built, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the id that the lock was sealed with; its name may be another image's by now."""
    sealed = replace(dind.inputs.lock, expected=ids_of(dind))
    chain = [replace(dind.inputs, lock=sealed)]
    monkeypatch.setattr(doctor, "resolve", lambda *_words: chain)
    monkeypatch.setattr(doctor, "build", None)
    assert "yes" in told(project)


#: What a probe finds where nothing will bite.
WELL = {"nft": "4", "mtu": "1500 (eth0)", "nameservers": "192.0.2.53", "ipvs": "yes"}


@pytest.mark.parametrize(
    ("found", "warning"),
    [
        ({}, ""),
        ({"legacy": "0"}, ""),
        ({"nameservers": "127.0.0.11 192.0.2.53"}, ""),
        ({"nameservers": "127.0.0.53"}, "name server is 127.0.0.53, .*DIND_DNS"),
        ({"mtu": "1450 (eth0)"}, r"The MTU is 1450 \(eth0\)"),
        ({"legacy": "2"}, "in both iptables backends"),
        ({"nft-error": "no such table"}, "iptables does not work on the engine's machine: no such table"),
        ({"network-error": "no bridge"}, "Containers on the default network do not run here: no bridge"),
    ],
)
def test_what_bites_is_told_of_what_the_probe_finds(found: dict[str, str], warning: str) -> None:
    troubles = doctor._probed_troubles(WELL | found)
    assert len(troubles) == bool(warning)
    assert not warning or re.search(warning, troubles[0])


@pytest.mark.parametrize(
    ("info", "warning"),
    [
        ({}, ""),
        ({"Driver": "vfs"}, "vfs copies every layer"),
        ({"SecurityOptions": ["name=seccomp,profile=builtin", "name=rootless"]}, "rootless, on cgroup v1"),
        ({"SecurityOptions": ["name=rootless"], "CgroupVersion": "2"}, "a cgroup of their own"),
        ({"ServerVersion": "20.10.24+dfsg1"}, "unable to apply caps"),
        ({"Warnings": ["WARNING: No swap limit support"]}, "No swap limit support"),
    ],
)
def test_what_bites_is_told_of_what_the_engine_says(info: dict[str, Any], warning: str) -> None:
    troubles = doctor._known_troubles({"Driver": "overlay2", "ServerVersion": "26.1.5", **info})
    assert len(troubles) == bool(warning)
    assert not warning or re.search(warning, troubles[0])


def test_a_folder_that_both_see(engine: Engine, project: Project, folder: Path) -> None:
    assert "with the same content" in told(project, str(folder))
    (folder / "file").write_text("content")
    Path(os.fsdecode(bytes(folder) + b"/not \xff utf-8")).touch()
    assert "with the same content" in told(project, str(folder))
    assert "with the same content" in told(project, str(folder / "file"))
    assert len(list(folder.iterdir())) == 2


def test_a_path_that_is_not_here(engine: Engine, project: Project, folder: Path) -> None:
    with pytest.raises(EngineError, match="does not exist on this machine"):
        told(project, str(folder / "none"))


def test_a_daemon_in_a_container_does_not_see_our_folders(
    engine: Engine,
    dind: Built,
    containers: Containers,
    project: Project,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The trap itself: the client here, the daemon behind a TCP port."""
    daemon = containers.daemon(environment={"DOCKER_TLS_CERTDIR": ""})
    monkeypatch.setenv("DOCKER_HOST", f"tcp://{daemon.address}:2375")
    with pytest.raises(EngineError, match=rf"does not see {folder}.*-v {folder}:{folder}"):
        told(project, str(folder))
    daemon(f"mkdir -p {folder}")
    with pytest.raises(EngineError, match="with another content"):
        told(project, str(folder))


def test_without_an_engine_it_says_so(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nobody/listens")
    with pytest.raises(EngineError, match="no engine answers"):
        told(project)
