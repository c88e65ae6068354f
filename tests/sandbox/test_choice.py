"""Where a host makes no namespaces, maintainer scripts run on the engine that answers, or not at all."""

from __future__ import annotations

import io
import platform
import shutil
from pathlib import Path
from typing import IO, Any, NoReturn

import pytest

import tasks  # noqa: F401 - the commands are what makes engines known to builds
from dindkit import process
from dindkit.engine import discover
from dindkit.engine.discover import Engine
from dindkit.errors import DindkitError, ToolMissingError
from dindkit.progress import Progress
from dindkit.project import Project
from dindkit.sandbox import choice, chroot, container
from dindkit.sandbox.choice import DefaultSandbox
from dindkit.sandbox.interface import NoSandboxError, ScriptRun
from dindkit.sandbox.namespaces import Namespaces
from tests.support.local_project import LocalProject, publish_greeter

#: What unshare says as root in a container that is not privileged.
REFUSED = "unshare: unshare failed: Operation not permitted"


class Lent:
    """Stands in for a container: hands the tree back as it came."""

    def __init__(self, client: object) -> None:
        self.client = client

    def run(self, run: ScriptRun[Any]) -> Any:
        out = io.BytesIO()
        run.write_tree(out)
        return run.read_tree(io.BytesIO(out.getvalue())), run.script, self.client


def refuse(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    def missing(tool: str) -> NoReturn:
        raise ToolMissingError(f"{tool} is not installed.", "Run: apt-get install util-linux")

    if how == "unshare":
        argv = ["sh", "-c", f"echo '{REFUSED}' >&2; exit 1"]
        monkeypatch.setattr(Namespaces, "argv", lambda *_: argv)
    elif how == "mount":
        monkeypatch.setattr(Namespaces, "argv", lambda *_: ["sh", "-c", "echo mount: no >&2; exit 12"])
    elif how == "macOS":
        monkeypatch.setattr(platform, "system", lambda: "Darwin")
    else:
        monkeypatch.setattr(process, "require", missing)


def run(state: Path, said: io.StringIO) -> Any:
    def feed(out: IO[bytes]) -> None:
        out.write(b"tree")

    where = DefaultSandbox(Project(state, state, state), Progress(said))
    return where.run(ScriptRun(feed, "true", lambda stream: stream.read(), {}, 1_000_000))


@pytest.mark.parametrize("how", ["unshare", "mount", "macOS", "tool"])
def test_the_engine_that_answers_has_the_sandbox(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    refuse(monkeypatch, how)
    client: Any = object()
    monkeypatch.setattr(discover, "find", lambda _: Engine(client, "unix:///engine.sock", "DOCKER_HOST"))
    monkeypatch.setattr(container, "Container", Lent)
    said = io.StringIO()
    assert run(tmp_path, said) == (b"tree", "true", client)
    assert said.getvalue().splitlines() == [
        "sandbox: a container on unix:///engine.sock (DOCKER_HOST), as this host makes no namespaces."
    ]


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        (
            "unshare",
            f"The sandbox cannot be made here: {REFUSED}. Run as root, or allow user namespaces, or make a "
            "Docker engine reachable (DOCKER_HOST).",
        ),
        (
            "macOS",
            "Maintainer scripts run on Linux only. Make a Docker engine reachable (DOCKER_HOST).",
        ),
        ("tool", "setpriv is not installed. Run: apt-get install util-linux"),
    ],
)
def test_without_an_engine_it_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, sentence: str
) -> None:
    refuse(monkeypatch, how)
    monkeypatch.setattr(discover, "find", lambda _: None)
    said = io.StringIO()
    with pytest.raises(DindkitError) as caught:
        run(tmp_path, said)
    assert str(caught.value) == sentence
    assert said.getvalue() == ""


@pytest.mark.parametrize("how", ["unshare", "mount", "tool"])
def test_root_in_a_container_without_privileges_is_told_what_it_gets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    refuse(monkeypatch, how)
    monkeypatch.setattr(discover, "find", lambda _: None)
    monkeypatch.setattr(chroot, "is_needed", lambda: True)
    monkeypatch.setattr(chroot, "Chroot", Lent)
    said = io.StringIO()
    assert run(tmp_path, said) == (b"tree", "true", tmp_path / "sandbox")
    assert said.getvalue().splitlines() == [chroot.ANNOUNCEMENT]
    for word in ("network", "host name", "processes"):
        assert word in said.getvalue()


def test_an_engine_comes_before_chroot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, "unshare")
    client: Any = object()
    monkeypatch.setattr(discover, "find", lambda _: Engine(client, "unix:///engine.sock", "DOCKER_HOST"))
    monkeypatch.setattr(container, "Container", Lent)
    monkeypatch.setattr(chroot, "is_needed", lambda: True)
    said = io.StringIO()
    assert run(tmp_path, said) == (b"tree", "true", client)
    assert "chroot" not in said.getvalue()


def test_a_script_that_fails_is_not_run_again_on_an_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Namespaces, "argv", lambda *_: ["sh", "-c", "echo unshare: no >&2; exit 10"])
    monkeypatch.setattr(choice, "find_on_engine", lambda *_: pytest.fail("asked for another sandbox"))
    with pytest.raises(DindkitError, match="A maintainer script failed: unshare: no"):
        run(tmp_path, io.StringIO())


def test_a_build_goes_on_in_the_other_sandbox(
    local_project: LocalProject, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    publish_greeter(local_project, "5.0", scripts={"postinst": "#!/bin/sh\necho done >/var/lib/greeted\n"})
    local_project.lock()

    class Nowhere(Namespaces):
        def run(self, *_: Any) -> NoReturn:
            raise NoSandboxError("Not here.")

    monkeypatch.setattr(choice, "Namespaces", Nowhere)
    monkeypatch.setattr(choice, "find_on_engine", None)
    with pytest.raises(NoSandboxError, match="Not here"):
        local_project.build()
    monkeypatch.setattr(choice, "find_on_engine", lambda *_: Namespaces(tmp_path / "other"))
    other = local_project.build()
    monkeypatch.undo()
    shutil.rmtree(local_project.project.state / "packages")
    shutil.rmtree(other.folder)
    assert local_project.build().image_id == other.image_id
