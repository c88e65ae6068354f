"""Give a worker the tree on its standard input, and take the tree that comes from its standard output."""

from __future__ import annotations

import tarfile
import threading
from collections.abc import Callable
from subprocess import Popen
from typing import IO, cast

from dindkit.sandbox.interface import MAKE_SPACE, ScriptRun, Taken, failure

#: Bytes of a script's output that are kept; an error quotes the last lines.
LAST_WORDS = 1 << 16


def exchange(
    running: Popen[bytes],
    run: ScriptRun[Taken],
    end: Callable[[Popen[bytes]], None],
    make_space: str = MAKE_SPACE,
) -> Taken:
    """Return what `run.read_tree` makes of the tree that the worker `running` writes.

    However this ends, `end` has then been called with the worker, and the worker has ended. `make_space` is
    the next step where the tree does not fit. Raises SandboxError, and whatever `run.write_tree` and
    `run.read_tree` raise.
    """
    stdin, stdout, stderr = (
        cast(IO[bytes], pipe) for pipe in (running.stdin, running.stdout, running.stderr)
    )
    said: list[bytes] = []
    failures: list[BaseException] = []
    threads = [
        threading.Thread(target=_feed, args=(run.write_tree, stdin, failures)),
        threading.Thread(target=lambda: said.append(_last_words(stderr))),
    ]
    try:
        for thread in threads:
            thread.start()
        taken = _take(run.read_tree, stdout)
        code = running.wait()
    finally:
        end(running)
        running.wait()
        for thread in threads:
            thread.join()
        stdout.close()
        stderr.close()
    if failures:
        raise failures[0]  # a failure of the worker is then only a consequence
    if code:
        raise failure(code, b"".join(said).decode(errors="replace"), make_space)
    if isinstance(taken, tarfile.TarError):
        raise taken
    return taken


def _last_words(pipe: IO[bytes]) -> bytes:
    """Return the end of the output: all of it might not fit into memory."""
    last = b""
    while chunk := pipe.read(LAST_WORDS):
        last = (last + chunk)[-LAST_WORDS:]
    return last


def _feed(feed: Callable[[IO[bytes]], None], pipe: IO[bytes], failures: list[BaseException]) -> None:
    try:
        with pipe:
            feed(pipe)
    except BrokenPipeError:
        pass  # the worker has ended; its exit code tells why
    except BaseException as error:
        failures.append(error)


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
