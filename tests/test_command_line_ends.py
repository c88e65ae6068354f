"""How a verb ends, as its user sees it: sentences and exit codes, never a traceback."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

TASKS = """
import atexit
import errno
import os
import signal
import time
from pathlib import Path
from invoke import Collection
from dindkit.command_line.verb import verb
from dindkit.errors import DindkitError
from dindkit.progress import Progress

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
def memory(_context):
    try:
        raise RuntimeError("can't start new thread")
    except RuntimeError:
        raise AttributeError("of what was left half-made")

@verb()
def files(_context):
    raise OSError(errno.EMFILE, "Too many open files", "blob")

@verb()
def folder(_context):
    place = Path(os.environ["DINDKIT_STATE"])
    place.mkdir()
    place.with_name("file").touch()
    place.with_name("file").replace(place)

@verb()
def file(_context):
    place = Path(os.environ["DINDKIT_STATE"])
    place.touch()
    (place / "layers" / "one").mkdir(parents=True)

@verb()
def wait(_context):
    try:
        print("waiting", flush=True)
        time.sleep(60)
    finally:
        print("cleaned up", flush=True)

@verb()
def whole(_context):
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        atexit.register(os.kill, os.getpid(), number)
    print("done")

@verb()
def lock(_context, suite="trixie", image="dind"):
    pass

@verb()
def build(_context, suite="trixie", image="dind"):
    Progress().note("note invoke engine.start")
    raise DindkitError(
        "See: invoke build --help or invoke build --output FILE, or invoke lock,",
        "or invoke build --suite sid.",
    )

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
        (
            "memory",
            1,
            "error: There is not enough memory, or this process may not take more of it or start more "
            "threads. Free some, or raise the limits: ulimit -v, ulimit -u\n",
        ),
        (
            "files",
            1,
            "error: Too many open files: blob. Allow this process more open files: ulimit -n\n",
        ),
        (
            "folder",
            1,
            "error: There is a folder at {state}, where a file should be. Find out why, and remove it.\n",
        ),
        (
            "file",
            1,
            "error: There is a file at {state}, where a folder should be. Find out why, and remove it.\n",
        ),
    ],
)
def test_an_error_is_a_sentence(tmp_path: Path, command: list[str], task: str, code: int, said: str) -> None:
    done = subprocess.run([*command, task], env=environment(tmp_path), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (code, said.format(state=tmp_path / "state"))


def test_a_bug_keeps_its_traceback_in_a_file(tmp_path: Path, command: list[str]) -> None:
    done = subprocess.run([*command, "bug"], env=environment(tmp_path), capture_output=True, text=True)
    report = tmp_path / "state" / "last-error.txt"
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert str(report) in done.stderr
    assert "KeyError: 'missing'" in report.read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
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


def test_nohup_lets_it_go_on(tmp_path: Path, command: list[str]) -> None:
    """nohup(1) has SIGHUP ignored, in all that is started by it."""
    with subprocess.Popen(
        ["nohup", *command, "wait"], env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"waiting\n"
        running.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            running.wait(0.5)
        running.terminate()
        out, _ = running.communicate()
    assert (running.returncode, out) == (1, b"cleaned up\n")


def test_a_signal_after_the_end_interrupts_nothing(tmp_path: Path, command: list[str]) -> None:
    program = [sys.executable, "-m", "dindkit.command_line", "--search-root", command[-1], "whole"]
    done = subprocess.run(program, env=environment(tmp_path), capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


@pytest.mark.parametrize(
    ("words", "advised"),
    [
        ("advise", "invoke build --output FILE, or invoke lock, or invoke build --suite sid."),
        ("advise --suite forky", "build --suite forky --output FILE, or invoke lock --suite forky, or"),
        ("advise --suite forky", "or invoke build --suite sid."),
        ("advise --image base", "build --image base --output FILE, or invoke lock --image base, or"),
        ("advise --image ./my\\ own", "build './my own' --output FILE, or invoke lock './my own', or invoke"),
    ],
)
def test_advice_is_about_what_was_asked_for(
    tmp_path: Path, command: list[str], words: str, advised: str
) -> None:
    typed = words.replace("advise", "build", 1)
    done = subprocess.run(
        [*command, *shlex.split(typed)], env=environment(tmp_path), capture_output=True, text=True
    )
    assert f"{advised}" in done.stderr
    assert "See: invoke build --help" in done.stderr
    assert "note invoke engine.start" in done.stderr


READ_BY_NOBODY = [
    "--list",
    "--help",
    "build --help",
    "--print-completion-script=bash",
    "version --json --quiet",
]


@pytest.mark.parametrize("words", READ_BY_NOBODY)
def test_a_list_that_nobody_reads_is_no_error_to_talk_about(words: str) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    done = subprocess.run([ROOT / "scripts/invoke", *words.split()], stdout=writes, stderr=subprocess.PIPE)
    os.close(writes)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize("words", READ_BY_NOBODY)
def test_a_list_for_which_there_is_no_space_is_a_sentence(words: str) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([ROOT / "scripts/invoke", *words.split()], stdout=full, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (1, b"error: No space left on device.\n")


@pytest.mark.parametrize("words", ["version", "version --json --quiet", "--list"])
def test_an_output_that_is_closed_is_a_sentence(words: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f"exec {shlex.quote(str(ROOT / 'scripts/invoke'))} {words} >&-"], stderr=subprocess.PIPE
    )
    assert (done.returncode, done.stderr) == (1, b"error: Bad file descriptor.\n")


def test_messages_that_nobody_reads_change_no_result() -> None:
    script = shlex.quote(str(ROOT / "scripts/invoke"))
    for aside in ("2>&-", "<&-", "2>/dev/full"):
        done = subprocess.run(["sh", "-c", f"exec {script} version {aside}"], stdout=subprocess.PIPE)
        assert (done.returncode, done.stdout[:8]) == (0, b"dindkit "), aside


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    script = shlex.quote(str(ROOT / "scripts/invoke"))
    words = f"cd {shlex.quote(str(folder))} && rmdir ../gone && exec {script} build ./my-runner"
    done = subprocess.run(["sh", "-c", words], capture_output=True, text=True)
    said = "error: The folder that this was called in is gone. Change to one that is there.\n"
    assert (done.returncode, done.stderr.splitlines(keepends=True)[-1]) == (
        1,
        said,
    )  # the shell complains, too


@pytest.mark.skipif(os.geteuid() != 0, reason="takes another user's id, as root alone may")
def test_a_user_without_a_home(tmp_path: Path) -> None:
    """Which is what a container is given by `docker run --user 4242`."""
    program = (
        "import os, pwd\nfrom dindkit.project import DindkitError, Project\nos.setuid(4242)\n"
        "try: Project.here()\nexcept DindkitError as error: print(error)"
    )
    kept = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=kept, capture_output=True, text=True)
    said = "User 4242 has no home folder. Set HOME, or DINDKIT_STATE and DINDKIT_CACHE.\n"
    assert (done.stdout, done.stderr) == (said, "")


@pytest.mark.parametrize(("verb", "said"), [("build", True), ("build .", False), ("version", False)])
def test_a_recipe_in_this_folder_is_pointed_out(tmp_path: Path, verb: str, said: bool) -> None:
    (tmp_path / "image.toml").write_text('parent = "dind"\n')
    done = subprocess.run(
        [ROOT / "scripts/invoke", *verb.split(), *(["--suite", "sid"] if "build" in verb else [])],
        cwd=tmp_path,
        env={**environment(tmp_path), "DINDKIT_STATE": str(tmp_path / "state")},
        capture_output=True,
        text=True,
    )
    assert ("For the recipe in this folder: invoke build --suite sid ." in done.stderr) == said


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
