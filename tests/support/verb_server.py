"""Runs verbs in processes that have loaded what verbs import, which takes half a second of CPU each time.

Each is a process of its own with its own environment, folder and network, forked from one that has imported
modules and has done nothing else, and it ends as a program does. `Host.invoke` starts the program itself, for
tests of signals and of what else is about it.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from tests.support.namespaces import join_network

#: What the verbs of engines, `smoke` and `clean` import when they run.
LOADED = (
    "invoke.main",
    "dindkit.clean",
    "dindkit.command_line.program",
    "dindkit.smoke.smoke",
    "dindkit.tools.own_engine",
)


def run_verb(
    words: list[str], environment: Mapping[str, str], network: Path
) -> subprocess.CompletedProcess[str]:
    """Run `invoke WORDS` to its end, in a network namespace."""
    request = {
        "words": words,
        "environment": dict(environment),
        "network": str(network),
        "folder": str(Path.cwd()),
    }
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        socket.send_fds(_server(), [json.dumps(request).encode()], [out.fileno(), err.fileno()])
        code = int(_server().recv(100))
        return subprocess.CompletedProcess(words, code, _text(out), _text(err))


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


@functools.cache
def _server() -> socket.socket:
    """Start the process from which the others are forked; it ends with this one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    running = subprocess.Popen(
        [sys.executable, "-m", "tests.support.verb_server", str(theirs.fileno())],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=subprocess.DEVNULL,
        pass_fds=[theirs.fileno()],
    )
    theirs.close()
    atexit.register(running.wait)
    atexit.register(ours.close)  # it ends by that; what is registered last is called first
    return ours


def _serve(server: socket.socket) -> None:
    for name in LOADED:
        importlib.import_module(name)
    while True:
        message, descriptors, _, _ = socket.recv_fds(server, 1 << 20, 2)
        if not message:
            return
        child = os.fork()
        if child == 0:
            server.close()
            _run(json.loads(message), descriptors)
            return
        for descriptor in descriptors:
            os.close(descriptor)
        server.send(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode())


def _run(request: dict[str, object], descriptors: list[int]) -> None:
    """Run a verb in this process. Raises SystemExit where it ends with another exit code than 0."""
    from invoke.main import program

    for number, descriptor in enumerate(descriptors, start=1):
        os.dup2(descriptor, number)
        os.close(descriptor)
    with Path(str(request["network"])).open() as network:
        join_network(network.fileno())
    os.environ.clear()
    os.environ.update(request["environment"])  # type: ignore[call-overload]
    os.chdir(str(request["folder"]))
    program.run(["invoke", *request["words"]])  # type: ignore[misc]


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
