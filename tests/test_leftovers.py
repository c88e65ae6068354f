"""What is left of a run that was killed with no warning: the next of its kind clears it up, or `clean`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from dindkit import clean, leftovers, owner
from dindkit.embedded import lifecycle
from dindkit.engine import run_script
from dindkit.engine.discover import Engine
from dindkit.errors import EngineError
from dindkit.formats.tree import Tree
from dindkit.image.build import Built
from dindkit.progress import Progress
from dindkit.project import Project
from dindkit.sandbox.container import Container
from dindkit.sandbox.interface import ScriptRun
from tests.engine.dind import until
from tests.support import engine_seed
from tests.support.host import Host, new_host
from tests.support.processes import killed, living

pytestmark = pytest.mark.engine

#: Each verb with what it needs to go on for a while, and with what to end soon.
VERBS = {
    "smoke": (["smoke", "--topology", "tls"], ["smoke"]),
    "shell": (["shell"], ["shell"]),
    "preload": (["preload", "dindkit-killed-data", "--image"], ["preload", "dindkit-killed-data", "--image"]),
}


def labelled(engine: Engine, kind: str = "") -> dict[str, str]:
    """Return what of `kind` is in the engine, by name, with the process that made it."""
    filters = {"label": [leftovers.OWNER, *([f"{leftovers.KIND}={kind}"] if kind else [])]}
    api = engine.client.api
    found = [(one["Id"], one["Labels"]) for one in api.containers(all=True, filters=filters)]
    found += [(one["Id"], one["Labels"]) for one in api.networks(filters=filters)]
    found += [(one["Name"], one["Labels"]) for one in api.volumes(filters=filters)["Volumes"] or []]
    found += [(one["Id"], one["Labels"]) for one in api.images(filters=filters)]
    return {name: labels[leftovers.OWNER] for name, labels in found}


def of_process(engine: Engine, pid: int, kind: str = "") -> set[str]:
    made = {name: owner.parse(token) for name, token in labelled(engine, kind).items()}
    return {name for name, maker in made.items() if maker is not None and maker.process == pid}


@contextmanager
def verb(engine: Engine, project: Project, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    environment = {
        **os.environ,
        "DOCKER_HOST": engine.host,
        "DINDKIT_STATE": str(project.state),
        "DINDKIT_CACHE": str(project.cache),
        "PYTHONPATH": str(project.root),
    }
    argv = [sys.executable, "-m", "invoke", "--search-root", str(project.root), *words]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def kill_with(process: subprocess.Popen[bytes], engine: Engine, kind: str, number: int) -> set[str]:
    """Kill a verb once it has made `number` things of `kind`, and return them."""
    deadline = time.monotonic() + 120
    while len(of_process(engine, process.pid, kind)) < number:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.wait()
    return of_process(engine, process.pid)


@pytest.fixture
def volume(engine: Engine) -> Iterator[str]:
    yield "dindkit-killed-data"
    for found in engine.client.volumes.list(filters={"name": "dindkit-killed-data"}):
        found.remove(force=True)


@pytest.mark.parametrize("kind", VERBS)
def test_the_next_run_removes_what_a_killed_one_left(
    engine: Engine, project: Project, base: Built, volume: str, kind: str
) -> None:
    first, second = ([*words, base.reference] if words[-1] == "--image" else words for words in VERBS[kind])
    marks = {leftovers.KIND: kind}
    with living() as (alive, _):
        spare = [
            engine.client.volumes.create(labels={**marks, leftovers.OWNER: str(one)}).name
            for one in (alive, replace(killed(), machine="00000000", boot="00000000"))
        ]
        other_kind = engine.client.volumes.create(
            labels={leftovers.KIND: "another", leftovers.OWNER: str(killed())}
        )
        try:
            with verb(engine, project, *first) as process:
                left = kill_with(process, engine, kind, 4 if kind == "smoke" else 1)
            folders = [path for path in project.state.glob(f"{kind}-*") if owner.of_path(path)]
            assert left
            assert len(folders) == (0 if kind == "shell" else 1)
            with verb(engine, project, *second) as process:
                said = process.communicate(b"exit\n")[0]
            assert process.returncode == 0, said
            assert b"a killed run had left: container dindkit-" in said
            assert labelled(engine, kind).keys() == set(spare)
            assert not list(project.state.glob(f"{kind}-*"))
            assert other_kind.name in labelled(engine)
        finally:
            for name in (*spare, other_kind.name):
                engine.client.volumes.get(str(name)).remove()


def test_a_run_beside_it_goes_on(engine: Engine, project: Project, base: Built) -> None:
    with verb(engine, project, "shell") as first:
        deadline = time.monotonic() + 120
        while not of_process(engine, first.pid, "shell"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with verb(engine, project, "shell") as second:
            second.communicate(b"exit\n")
        said = first.communicate(b"echo still $((40 + 2))\n")[0]
    assert b"still 42" in said
    assert first.returncode == 0
    assert not labelled(engine, "shell")


def test_a_script_that_was_killed(engine: Engine, base: Built) -> None:
    """As doctor runs them."""
    labels = {leftovers.KIND: run_script.KIND, leftovers.OWNER: str(killed())}
    left = engine.client.containers.run(base.reference, ["sleep", "infinity"], detach=True, labels=labels)
    seen = run_script.run(engine, base.reference, "echo here")
    assert seen == "here\n"
    assert left.id not in labelled(engine)
    assert not labelled(engine, run_script.KIND)


def test_the_sandbox_on_an_engine(engine: Engine, shell_tree: Tree, tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        Container(engine.client).run(ScriptRun(shell_tree.write, "sleep 1000", lambda stream: None, {}, 0))
        os._exit(1)
    deadline = time.monotonic() + 60
    while len(of_process(engine, child)) < 2:  # the image, and the container of it
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert len(of_process(engine, child)) == 2
    Container(engine.client).run(ScriptRun(shell_tree.write, "true", lambda stream: stream.read(), {}, 0))
    assert not of_process(engine, child)
    assert not labelled(engine, "sandbox")


def test_clean_removes_what_is_left_of_any_kind(
    engine: Engine, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", engine.host)
    here = Project(project.root, tmp_path / "state", tmp_path / "cache")
    dead, said = killed(), Progress(quiet=True)
    with living() as (alive, _):
        stay = [here.state / f"smoke-{alive}-0a1b2c", here.state / f"tmp/build-{alive}-0a1b2c"]
        for folder in (
            *stay,
            here.state / f"verify-{dead}-0a1b2c/state",
            here.state / "preload-0a1b2c",
            here.state / "tmp/build-1-x",
            here.state / "images/built",
        ):
            folder.mkdir(parents=True)
        volumes = {
            one: engine.client.volumes.create(
                labels={leftovers.KIND: "smoke", leftovers.OWNER: str(one)}
            ).name
            for one in (dead, alive, replace(dead, machine="00000000", boot="00000000"))
        }
        clean.clean(here, said)
        assert sorted(path for path in here.state.glob("**/*") if path.name != "tmp") == sorted(stay)
        left = labelled(engine)
        assert [volumes[one] in left for one in volumes] == [False, True, True]
    clean.clean(here, said)
    assert not list(here.state.iterdir())
    left = labelled(engine)
    assert [volumes[one] in left for one in volumes] == [False, False, True]
    engine.client.volumes.get(str(list(volumes.values())[2])).remove()


@contextmanager
def killed_smoke(project: Project, state: Path, suite: str = "") -> Iterator[tuple[Host, set[str]]]:
    """Yield a host where `smoke` was killed as soon as the engine that it booted answered.

    With `suite` that engine has the images already; else it is just taking them in. The set is the host's
    footprint from before.
    """
    with new_host(project, state) as host:
        if suite:
            engine_seed.plant(host.project, suite)
        before = host.footprint()
        with subprocess.Popen(
            [*host.enter, *host.invoke("smoke")],
            env=host.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            assert until(lambda: answers(host.project), 120)
            process.kill()
        assert host.try_verb("engine.status")[0] == 0
        yield host, before


def answers(project: Project) -> bool:
    try:
        return lifecycle.status(project) is not None
    except EngineError:
        return False


@pytest.mark.parametrize("then", ["smoke", "clean"])
def test_an_engine_that_was_booted_for_a_killed_run(
    project: Project, dind: Built, base: Built, tmp_path: Path, suite: str, then: str
) -> None:
    seed = suite if then == "clean" else ""
    with killed_smoke(project, tmp_path / "state", seed) as (host, before):
        told = host.try_verb(then)
        assert told[0] == 0, told
        assert host.footprint() == before
    assert list((project.state / "images").glob("*-*"))  # to which a link led


def test_an_engine_that_is_asked_for_stays(
    project: Project, dind: Built, base: Built, tmp_path: Path, suite: str
) -> None:
    """Though it was booted for one run, which was killed."""
    with killed_smoke(project, tmp_path / "state", suite) as (host, _):
        host.verb("engine.start")
        host.verb("smoke")
        assert host.try_verb("engine.status")[0] == 0
        host.verb("engine.stop", "--purge")
