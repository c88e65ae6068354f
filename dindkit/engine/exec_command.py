"""Run a program in a running container, and get all of its output.

An engine under load loses output that a program writes right before it ends, without an error
(https://github.com/moby/moby/issues/27289). So the program writes into files of the container's own /dev/shm,
which are read until they are complete.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from docker.models.containers import Container

from dindkit.errors import EngineError

#: Exit codes of programs that a signal has ended. When a container's first process ends, SIGKILL ends all
#: others: 137.
KILLED = (137, 143)
#: How often the files are read before incomplete output is an error.
READS = 5

_READ = 'cat "$1.out"; cat "$1.err" >&2; printf %s "$2"; printf %s "$2" >&2; exit "$(cat "$1.code")"'
_RUN = f"""
files=$1 mark=$2
shift 2
"$@" >"$files.out" 2>"$files.err"
echo $? >"$files.code"
set -- "$files" "$mark"
{_READ}
"""


@dataclass(frozen=True)
class Done:
    """A program that has ended."""

    exit_code: int
    output: bytes
    error: bytes


def exec_command(
    container: Container,
    argv: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    user: str = "",
) -> Done:
    """Run `argv` in `container`, which needs a shell and cat, and return how it ended and what it wrote.

    Raises APIError as the engine does, and EngineError where the engine loses the output again and again.
    """
    mark = secrets.token_hex(8)
    words = [f"/dev/shm/.exec-{mark}", mark]  # noqa: S108 - the container's, by a name nobody can guess
    script, rest = _RUN, list(argv)
    for _ in range(READS):
        code, streams = container.exec_run(
            ["sh", "-c", script, "sh", *words, *rest],
            environment=dict(environment or {}),
            user=user,
            demux=True,
        )
        out, err = (part or b"" for part in cast(tuple[bytes | None, bytes | None], streams))
        end = mark.encode()
        if out.endswith(end) and err.endswith(end):
            return Done(code or 0, out.removesuffix(end), err.removesuffix(end))
        if code in KILLED:
            return Done(code, out, err)  # the container has ended, and its files are gone
        script, rest = _READ, []
    raise EngineError(
        f"The engine loses what `{' '.join(argv)}` says.", "Its machine may be overloaded: try again."
    )
