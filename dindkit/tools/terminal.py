"""Connect a container to the user's terminal, as `docker run -it` does, without a Docker client."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import sys
import termios
import threading
import tty
from collections.abc import Iterator
from typing import Any

from docker.errors import APIError
from docker.models.containers import Container
from docker.utils.socket import frames_iter


def attach(container: Container, interactive: bool) -> int:
    """Start `container`, connect it to this process's input and outputs, and return its exit code.

    `interactive` says whether it has a terminal; without one it reads until our input ends.
    """
    streams = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
    connection = container.attach_socket(params=streams)
    with _raw() if interactive else contextlib.nullcontext():
        container.start()
        if interactive:
            _follow_size(container)
        sender = threading.Thread(target=_send, args=(getattr(connection, "_sock", connection),), daemon=True)
        sender.start()
        for stream, data in frames_iter(connection, interactive):  # type: ignore[no-untyped-call]
            target = sys.stderr if stream == 2 else sys.stdout
            target.buffer.write(data)
            target.buffer.flush()
    return int(container.wait()["StatusCode"])


def _send(connection: Any) -> None:
    """Send our input to the container; where ours ends, end the container's, too."""
    with contextlib.suppress(OSError):  # the container has ended
        while data := os.read(sys.stdin.fileno(), 4096):
            connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def _raw() -> Iterator[None]:
    """Put our terminal into raw mode: the one in the container does echo, line editing and Ctrl-C."""
    before = termios.tcgetattr(sys.stdin)
    tty.setraw(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _follow_size(container: Container) -> None:
    def resize(*_: object) -> None:
        columns, lines = shutil.get_terminal_size()
        with contextlib.suppress(APIError):  # it has ended
            container.resize(lines, columns)

    signal.signal(signal.SIGWINCH, resize)
    resize()
