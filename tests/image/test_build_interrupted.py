"""Builds beside each other, interrupted, and on a full disk: what is left afterwards, and the next build."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.build_process import HERE, command, start, state_with_base
from tests.support.killed_sandbox import leftovers
from tests.support.local_project import LocalProject


def test_two_builds_at_once_make_one_image(local_project: LocalProject, tmp_path: Path) -> None:
    state = state_with_base(local_project, tmp_path / "state")
    builds = [start(local_project, state) for _ in range(2)]
    said = [one.communicate() for one in builds]
    assert [one.returncode for one in builds] == [0, 0], said
    assert said[0][0] == said[1][0]
    assert sum("configure app" in errors for _, errors in said) == 1


NUMBERS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])


@NUMBERS
@pytest.mark.parametrize("pause", [0.0, 2.0])
def test_interrupted_in_the_sandbox_it_leaves_nothing_half_made(
    local_project: LocalProject, tmp_path: Path, number: signal.Signals, pause: float
) -> None:
    """While a tree of some size goes into it, and after."""
    interrupt(local_project, tmp_path, number, "check packages of app", pause)


@NUMBERS
@pytest.mark.parametrize("step", ["download packages", "configure app"])
def test_interrupted_elsewhere_it_leaves_nothing_half_made(
    small_project: LocalProject, tmp_path: Path, number: signal.Signals, step: str
) -> None:
    interrupt(small_project, tmp_path, number, step)


def interrupt(
    local_project: LocalProject, tmp_path: Path, number: signal.Signals, step: str, pause: float = 0.0
) -> None:
    """Interrupt a build after `step`, and assert that nothing half made stays, and that the next one works.

    A line comes when its step is done, so that the signal hits the one after it.
    """
    state = state_with_base(local_project, tmp_path / "state")
    before = {path.name for path in (state / "images").iterdir()}
    running = start(local_project, state)
    assert running.stderr
    for line in running.stderr:
        if line.startswith(step):
            break
    time.sleep(pause)
    running.send_signal(number)
    running.communicate(timeout=60)
    for folder in (state / "images").iterdir():
        if folder.name not in before and (folder / "built.json").is_file():  # it was quicker than the signal
            assert len(json.loads((folder / "built.json").read_text())["layers"]) == 3
    if number == signal.SIGINT:  # SIGTERM is turned into the same by the command line; SIGKILL by nobody
        assert list((state / "tmp").glob("*")) == []
    deadline = time.monotonic() + 20
    while leftovers(state) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert leftovers(state) == []
    again = start(local_project, state)
    said = again.communicate(timeout=200)
    assert again.returncode == 0, said
    assert list((state / "tmp").iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small file system")
def test_no_space_is_a_sentence_and_leaves_nothing(local_project: LocalProject, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    limited = ["unshare", "--mount", "sh", "-euc"]
    mount = f"mount -t tmpfs -o size=60m,mode=755 small {state}"
    left = f"find {state} -path {state}/code -prune -o -type f -print"  # digests of our modules are whole
    script = f'{mount}; code=0; "$@" || code=$?; {left}; exit $code'
    done = subprocess.run(
        [*limited, script, "sh", *command(local_project, state, "base")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(HERE)},
    )
    assert done.returncode == 1
    assert f"No space left on device: {state} is full. Free some, or let DINDKIT_STATE name" in done.stderr
    assert "Traceback" not in done.stderr
    assert {Path(line).name for line in done.stdout.splitlines()} <= {"lock"}
