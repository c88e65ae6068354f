"""What a user sees at the edge: sentences and exit codes, never a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

TASKS = """
import errno
import time
from invoke import Collection
from dindkit.command_line import verb
from dindkit.errors import DindkitError

@verb()
def sentence(_context):
    raise DindkitError("The lock is broken.", "Run: invoke lock")

@verb()
def code(_context):
    raise DindkitError("A security update waits.", exit_code=3)

@verb()
def bug(_context):
    {}["missing"]

@verb()
def full(_context):
    raise OSError(errno.ENOSPC, "No space left on device", "blob")

@verb()
def wait(_context):
    try:
        print("waiting", flush=True)
        time.sleep(60)
    finally:
        print("cleaned up", flush=True)

@verb()
def talk(_context):
    for _ in range(100_000):
        print("a line")
"""


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    (tmp_path / "tasks.py").write_text(TASKS)
    return [sys.executable, "-m", "invoke", "--search-root", str(tmp_path)]


def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "DINDKIT_STATE": str(tmp_path / "state")}


@pytest.mark.parametrize(
    ("task", "code", "said"),
    [
        ("sentence", 1, "error: The lock is broken. Run: invoke lock\n"),
        ("code", 3, "error: A security update waits.\n"),
        ("full", 1, "error: No space left on device: blob.\n"),
    ],
)
def test_an_error_is_a_sentence(tmp_path: Path, command: list[str], task: str, code: int, said: str) -> None:
    done = subprocess.run([*command, task], env=environment(tmp_path), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (code, said)


def test_a_bug_keeps_its_traceback_in_a_file(tmp_path: Path, command: list[str]) -> None:
    done = subprocess.run([*command, "bug"], env=environment(tmp_path), capture_output=True, text=True)
    report = tmp_path / "state" / "last-error.txt"
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert str(report) in done.stderr
    assert "KeyError: 'missing'" in report.read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_unwinds(tmp_path: Path, command: list[str], number: signal.Signals) -> None:
    with subprocess.Popen(
        [*command, "wait"],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "waiting\n"
        started = time.monotonic()
        running.send_signal(number)
        out, err = running.communicate()
    assert running.returncode == 1
    assert out == "cleaned up\n"
    assert err == "interrupted; what was there before is unchanged.\n"
    assert time.monotonic() - started < 30  # it was the signal that ended it, not the sleep


def test_a_reader_that_goes_away_is_no_error_to_talk_about(tmp_path: Path, command: list[str]) -> None:
    with subprocess.Popen(
        [*command, "talk"], env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.readline()
        running.stdout.close()
        assert b"Traceback" not in running.stderr.read()
    assert running.returncode == 1
