"""The smoke test: every topology holds, nothing of it stays, and a failure says where it was."""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dindkit import json_document, leftovers
from dindkit.engine import discover
from dindkit.engine.discover import Engine
from dindkit.errors import EngineError
from dindkit.image.build import Built
from dindkit.progress import Progress
from dindkit.project import Project
from dindkit.smoke import context, smoke
from dindkit.smoke.context import Node, SmokeContext
from dindkit.smoke.topologies import TABLE, swarm
from tests.engine.dind import Containers, Dind
from tests.engine.upstream import upstream
from tests.support import schemas
from tests.support.engine_seed import plant
from tests.support.host import new_host
from tests.support.suites import with_recipes

pytestmark = pytest.mark.engine


def things(engine: Engine) -> list[set[str]]:
    """Return what a smoke test could leave in the engine."""
    api = engine.client
    return [
        {str(found.id) for found in api.containers.list(all=True)},
        {str(found.id) for found in api.networks.list()},
        {str(found.id) for found in api.volumes.list()},
    ]


@dataclass(frozen=True)
class Played:
    """What a topology said, and what it left in the engine beside what was there before."""

    said: str
    out: str
    found: dict[str, Any]
    before: list[set[str]]
    after: list[set[str]]


@pytest.fixture(scope="module")
def play(engine: Engine, project: Project, suite: str) -> Callable[[str], Played]:
    """Give what plays a topology with images of the suite under test, each once."""

    @functools.cache
    def once(topology: str) -> Played:
        before, stream, out = things(engine), io.StringIO(), io.StringIO()
        found: dict[str, Any] = {}
        with contextlib.redirect_stdout(out):
            smoke.run(with_recipes(project), Progress(stream), topology=topology, suite=suite, found=found)
        return Played(stream.getvalue(), out.getvalue(), found, before, things(engine))

    return once


@pytest.mark.parametrize("topology", TABLE)
def test_topology(play: Callable[[str], Played], project: Project, engine: Engine, topology: str) -> None:
    played = play(topology)
    schemas.check("smoke", json_document.document("smoke", played.found, None, ()))
    assert [(one["topology"], one["passed"]) for one in played.found["checks"]] == [(topology, True)]
    answering = discover.find(project)
    assert answering is not None
    assert played.found["engine"] == {"host": engine.host, "found_by": answering.found_by}
    assert played.out == f"{topology}: passed on {engine.host} ({answering.found_by})\n"
    assert played.after == played.before
    assert not list(project.state.glob("smoke-*"))
    assert ("warning" in played.said) == (topology == "tcp")


def test_three_levels_are_told(play: Callable[[str], Played]) -> None:
    """By `nested`, which is the default."""
    assert inspect.signature(smoke.run).parameters["topology"].default == "nested"
    lines = [line.split() for line in play("nested").said.splitlines() if line.startswith("hello")]
    assert [line[3] for line in lines] == ["0", "1", "2"]
    assert lines[0][6] == socket.gethostname()
    assert len({line[6] for line in lines}) == 3


def test_all_leaves_out_what_must_be_asked_for_by_name(
    engine: Engine, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = []
    for name in TABLE:
        monkeypatch.setitem(TABLE, name, lambda context: played.append(context.token.partition("-")[0]))
    smoke.run(project, Progress(io.StringIO()), topology="all")
    assert played == ["nested", "socket", "tls", "swarm"]


def test_an_unknown_topology_is_named(project: Project) -> None:
    with pytest.raises(
        EngineError, match=r"no topology ring.*nested, socket, tls, tcp, swarm, rootless, all"
    ):
        smoke.run(project, Progress(quiet=True), topology="ring")


def test_an_image_without_a_daemon_fails_on_level_1(engine: Engine, project: Project, base: Built) -> None:
    before = things(engine)
    found: dict[str, Any] = {}
    with pytest.raises(EngineError, match=r"^level 1 failed: The level-1 daemon ended with exit code 0"):
        smoke.run(project, Progress(quiet=True), image=base.reference, found=found)
    assert [(one["topology"], one["passed"]) for one in found["checks"]] == [("nested", False)]
    assert things(engine) == before


@pytest.mark.parametrize(
    ("topology", "part"),
    [
        ("socket", "socket: the client failed: The client did not answer"),
        ("tls", "tls: the client failed: The daemon ended with exit code 0"),
        ("swarm", 'starting the manager failed: .*"dockerd"'),
    ],
)
def test_the_part_that_fails_is_named(
    engine: Engine,
    project: Project,
    base: Built,
    monkeypatch: pytest.MonkeyPatch,
    topology: str,
    part: str,
) -> None:
    """Each with an image that has no Docker in it."""
    monkeypatch.setattr(context, "READY", 3.0)
    before = things(engine)
    with pytest.raises(EngineError, match=f"^{part}"):
        smoke.run(project, Progress(quiet=True), topology=topology, image=base.reference)
    assert things(engine) == before


def test_the_daemons_of_a_swarm_listen_for_nobody_else(
    engine: Engine, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(_stage: SmokeContext, manager: Node) -> None:
        raise EngineError(manager.call("sh", "-c", "curl -s localhost:2375/_ping || echo curl says $?"))

    monkeypatch.setattr(swarm, "_serve", look)
    monkeypatch.setattr(SmokeContext, "load_base", lambda *_: "")  # no service comes to run in it
    stream = io.StringIO()
    with pytest.raises(EngineError, match=r"^swarm: service failed: curl says 7"):
        smoke.run(project, Progress(stream), topology="swarm")
    assert "manager: " in stream.getvalue()


@pytest.fixture(scope="module")
def elsewhere(shared_containers: Containers) -> Dind:
    """Start a daemon that does not see this machine's folders; smoke tests load the image into it."""
    return shared_containers.daemon(environment={"DOCKER_TLS_CERTDIR": ""})


@pytest.mark.parametrize("topology", ["nested", "tls"])
def test_an_engine_that_does_not_see_this_machine_is_named(
    elsewhere: Dind, project: Project, monkeypatch: pytest.MonkeyPatch, topology: str
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"tcp://{elsewhere.address}:2375")
    wrong = rf"^making the .*daemon failed: The engine .* does not see {project.state}.* Set DINDKIT_STATE"
    with pytest.raises(EngineError, match=wrong):
        smoke.run(project, Progress(quiet=True), topology=topology)


def test_a_nested_image_that_is_nowhere_fails_on_level_2_with_the_log(
    engine: Engine, project: Project
) -> None:
    stream = io.StringIO()
    with pytest.raises(EngineError, match=r"^level 2 failed"):
        smoke.run(project, Progress(stream), nested_image="localhost:1/nobody/has:this")
    assert "level-1 daemon: " in stream.getvalue()
    assert not engine.client.containers.list(all=True, filters={"label": leftovers.OWNER})


def test_a_nested_image_of_the_users_choice_is_pulled(
    engine: Engine, project: Project, base: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: dict[str, Any] = {}
    with upstream(engine, tmp_path, {"other:1": base.archive.read_bytes()}) as registry:
        monkeypatch.setenv("DIND_INSECURE_REGISTRIES", registry)
        smoke.run(project, Progress(quiet=True), nested_image=f"{registry}/other:1", found=found)
    assert found["checks"][0]["passed"]


def test_a_nested_image_that_the_engine_has_is_not_pulled(
    engine: Engine, project: Project, base: Built
) -> None:
    """It is in no registry at all."""
    image = engine.client.images.get(base.reference)
    image.tag("dindkit/of-the-engine", "test")
    try:
        for name in ("dindkit/of-the-engine:test", str(image.id)):
            found: dict[str, Any] = {}
            smoke.run(project, Progress(quiet=True), nested_image=name, found=found)
            assert found["checks"][0]["passed"]
    finally:
        engine.client.images.remove("dindkit/of-the-engine:test")
    with pytest.raises(EngineError, match="'bad name' is no name of an image"):
        smoke.run(project, Progress(quiet=True), nested_image="bad name")
    assert not list(project.state.glob("smoke-*"))


def test_without_an_engine_the_image_is_booted_and_stopped(
    project: Project, dind: Built, base: Built, suite: str, tmp_path: Path
) -> None:
    """It has the images already; tests/test_leftovers.py has a smoke test that loads them."""
    with new_host(project, tmp_path / "state") as host:
        plant(host.project, suite)
        before = host.footprint()
        told = host.popen(*host.invoke("smoke"))
        assert told[0] == 0, told
        assert "booting the image itself" in told[2]
        assert "hello from level 2" in told[2]
        assert host.footprint() == before
        told = host.popen(*host.invoke("smoke", "--nested-image", "localhost:1/nobody/has:this"))
        assert told[0] == 1
        assert "level 2 failed" in told[2]
        assert host.footprint() == before
