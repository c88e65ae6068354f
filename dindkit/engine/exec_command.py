"""Run a program in a running container, and get all of its output.

An engine under load loses output that a program writes right before it ends, without an error
(https://github.com/moby/moby/issues/27289). So the program writes into files of the container's own /dev/shm,
which are read until they are complete.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from docker.models.containers import Container

from dindkit.errors import EngineError

#: Exit codes of programs that a signal has ended. When a container's first process ends, SIGKILL ends all
#: others: 137.
KILLED = (137, 143)
#: For each reading of the files: seconds to wait before it, and for the reader to stay alive after it. What
#: is lost is what a program writes right before it ends.
PAUSES = (0.0, 0.05, 0.2, 0.5, 1.0, 2.0, 3.0)

# The exit code is in the stream: an engine gives none where the stream ends before it has seen the end. So is
# the number of bytes, or -1 where there is no wc: what comes first can be lost as well as what comes last.
_READ = """
files=$1 mark=$2 pause=$3
code=$(cat "$files.code")
cat "$files.out"
cat "$files.err" >&2
printf '%s %s %s' "$mark" "$code" "$(($(wc -c <"$files.out" 2>/dev/null || echo -1)))"
printf '%s %s' "$mark" "$(($(wc -c <"$files.err" 2>/dev/null || echo -1)))" >&2
[ "$pause" = 0.0 ] || sleep "$pause" 2>/dev/null || sleep 1 2>/dev/null || :
"""
_RUN = f"""
files=$1 mark=$2 pause=$3
shift 3
"$@" >"$files.out" 2>"$files.err"
echo $? >"$files.code"
set -- "$files" "$mark" "$pause"
{_READ}
"""


@dataclass(frozen=True)
class Done:
    """A program that has ended."""

    exit_code: int
    output: bytes
    error: bytes


def _is_whole(data: bytes, size: Sequence[bytes]) -> bool:
    """Return whether `data` is all of a stream that ends with its `size` in bytes, or with -1."""
    return len(size) == 1 and size[0] in (b"-1", str(len(data)).encode())


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
    files = f"/dev/shm/.exec-{mark}"  # noqa: S108 - the container's, by a name nobody can guess
    script, rest = _RUN, list(argv)
    ends = []
    for pause in PAUSES:
        time.sleep(pause)
        code, streams = container.exec_run(
            ["sh", "-c", script, "sh", files, mark, str(pause), *rest],
            environment=dict(environment or {}),
            user=user,
            demux=True,
        )
        out, err = (part or b"" for part in cast(tuple[bytes | None, bytes | None], streams))
        output, _, end = out.rpartition(f"{mark} ".encode())
        error, _, error_end = err.rpartition(f"{mark} ".encode())
        if _is_whole(output, end.split()[1:]) and _is_whole(error, error_end.split()):
            return Done(int(end.split()[0]), output, error)
        if code in KILLED:
            return Done(code, out, err)  # the container has ended, and its files are gone
        ends.append(f"exit code {code}, {len(out)} and {len(err)} bytes")
        script, rest = _READ, []
    raise EngineError(
        f"The engine loses what `{' '.join(argv)}` says. It was read {len(ends)} times: {'; '.join(ends)}.",
        "Its machine may be overloaded: try again.",
    )
