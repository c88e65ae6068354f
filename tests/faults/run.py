"""Run a verb in a process of its own, and end it at a moment of its life."""

from __future__ import annotations

import atexit
import importlib.util
import os
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dindkit.engine import sockets
from dindkit.project import Project
from tests.support import host

ROOT = Path(__file__).parents[2]

#: Seconds within which a process that got a signal ends, and what a killed one has started.
END = 30

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True)
class Ended:
    """How a run ended: its exit code (negative for a signal), what it said, and after how many seconds."""

    code: int
    result: str
    said: str
    seconds: float
    #: Of its processes.
    mark: str


class Running:
    """A verb that runs on `project`, in a session of its own, with `folder` for temporary files."""

    def __init__(self, project: Project, folder: Path, words: list[str]) -> None:
        self._out, self._err = folder.with_name("out"), folder.with_name("err")
        self._began = time.monotonic()
        self._commands = commands()  # imported here, so that every run has it at once
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS[1:])  # until the child is ready for them
        self.process = os.fork()
        if self.process == 0:
            code = 70
            try:
                code = self._child(project, folder, words)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS[1:])
        while os.getpgid(self.process) != self.process:  # a session of its own is what Ctrl-C will be sent to
            time.sleep(0.001)

    def _child(self, project: Project, folder: Path, words: list[str]) -> int:
        os.setsid()
        atexit._clear()  # what the tests have registered is theirs
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.alarm(0)
        for path, number in ((Path(os.devnull), 0), (self._out, 1), (self._err, 2)):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            os.dup2(descriptor, number)
        sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
        os.environ.update({host.MARK: str(os.getpid()), "TMPDIR": str(folder), "DOCKER_CONFIG": str(folder)})
        for name in ("DOCKER_HOST", "DOCKER_CONTEXT"):
            os.environ.pop(name, None)
        import tempfile

        tempfile.tempdir = None
        Project.here = classmethod(lambda _cls, root=None: project)  # type: ignore[assignment, method-assign]
        sockets.usual = list  # whatever engine this host has is none of ours
        code = 0
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS[1:])
            self._commands.run(["invoke", *words])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
        except KeyboardInterrupt:
            code = 1
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        return code

    def wait(self, seconds: float = 120) -> Ended:
        """Wait for the end; raises AssertionError where there is none within `seconds`."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            process, status = os.waitpid(self.process, os.WNOHANG)
            if process:
                code, took = os.waitstatus_to_exitcode(status), time.monotonic() - self._began
                out, err = (path.read_text(errors="replace") for path in (self._out, self._err))
                return Ended(code, out, err, took, str(self.process))
            time.sleep(0.002)
        os.killpg(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)
        raise AssertionError(f"no end within {seconds} s: {self._err.read_text(errors='replace')[-2000:]}")

    def end(self, number: signal.Signals, after: float) -> Ended:
        """Send the signal after so many seconds; as a terminal does for SIGINT, to all of its processes."""
        until = self._began + after
        while time.monotonic() < until:
            if os.waitid(os.P_PID, self.process, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                return self.wait()
            time.sleep(0.002)
        if number == signal.SIGINT:
            os.killpg(self.process, number)
        else:
            os.kill(self.process, number)
        return self.wait(END)


def commands() -> Any:
    """Return the program that scripts/invoke runs."""
    from dindkit.command_line.program import Commands

    name = "dindkit_tasks"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ROOT / "tasks.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    from invoke.collection import Collection

    tasks = Collection.from_module(sys.modules[name])
    return Commands(name="Invoke", binary="invoke", namespace=tasks)


def gone(mark: str) -> list[str]:
    """Wait until no process with `mark` is left, and return those that stay."""
    until = time.monotonic() + END
    while (left := host.processes(mark)) and time.monotonic() < until:
        time.sleep(0.02)
    return left
