"""Give a worker the tree on its standard input, and take the tree that comes from its standard output."""

from __future__ import annotations

import contextlib
import tarfile
from collections.abc import Callable, Sequence
from subprocess import Popen
from typing import IO, cast

from dindkit import process
from dindkit.interrupts import deferred
from dindkit.sandbox.interface import ENVIRONMENT, MAKE_SPACE, ScriptRun, Taken, failure
from dindkit.threads import Threads, feed

#: Bytes of a script's output that are kept; an error quotes the last lines.
LAST_WORDS = 1 << 16
#: Bytes that a pipe holds: of the usual 64 kB each side would wake the other too often.
PIPE = 1 << 20


def exchange(
    argv: Sequence[str],
    run: ScriptRun[Taken],
    end: Callable[[Popen[bytes]], None],
    make_space: str = MAKE_SPACE,
) -> Taken:
    """Start the worker `argv`, and return what `run.read_tree` makes of the tree that it writes.

    However this ends, `end` has then been called with the worker, and the worker has ended. `make_space` is
    the next step where the tree does not fit. Raises SandboxError, ToolMissingError, and whatever
    `run.write_tree` and `run.read_tree` raise.
    """
    said: list[bytes] = []
    failures: list[BaseException] = []
    with contextlib.ExitStack() as ending:
        with deferred():
            running = ending.enter_context(process.spawn(argv, env={**ENVIRONMENT, **run.environment}))
            stdin, stdout, stderr = (
                cast(IO[bytes], pipe) for pipe in (running.stdin, running.stdout, running.stderr)
            )
            for pipe in (stdin, stdout):
                _enlarge(pipe)
            threads = ending.enter_context(Threads())
            ending.callback(end, running)
            threads.start(lambda: feed(run.write_tree, stdin, failures))
            threads.start(lambda: said.append(_last_words(stderr)))
        taken = _take(run.read_tree, stdout)
        code = running.wait()
    if failures:
        raise failures[0]  # a failure of the worker is then only a consequence
    if code:
        raise failure(code, b"".join(said).decode(errors="replace"), make_space)
    if isinstance(taken, tarfile.TarError):
        raise taken
    return taken


def _enlarge(pipe: IO[bytes]) -> None:
    import fcntl  # not there on every host that can build with an engine

    with contextlib.suppress(OSError):  # who has many pipes may have no more memory for them: pipe(7)
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE)


def _last_words(pipe: IO[bytes]) -> bytes:
    """Return the end of the output: all of it might not fit into memory."""
    last = b""
    while chunk := pipe.read(LAST_WORDS):
        last = (last + chunk)[-LAST_WORDS:]
    return last


def _take(take: Callable[[IO[bytes]], Taken], pipe: IO[bytes]) -> Taken | tarfile.TarError:
    """Return the error of a broken stream instead of raising it: an error of the worker explains more."""
    taken: Taken | tarfile.TarError
    try:
        taken = take(pipe)
    except tarfile.TarError as error:
        taken = error
    while pipe.read(1 << 20):
        pass  # read on after the end mark, or the worker would block
    return taken
