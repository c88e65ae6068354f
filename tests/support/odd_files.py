"""What an attacker puts in the place of a file."""

from __future__ import annotations

import os
import shutil
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def something_else(path: Path, kind: str) -> Iterator[Path]:
    """Let a `kind` be at `path`, in the place of the file there; a link leads to that file."""
    aside = path.with_name(f"{path.name}.aside")
    path.rename(aside)
    try:
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        elif kind == "symbolic link":
            path.symlink_to(aside)
        elif kind == "device":
            if os.geteuid() != 0:
                pytest.skip("needs root to make a device")
            os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero: it never ends
        else:
            with socket.socket(socket.AF_UNIX) as one:
                here = os.open(path.parent, os.O_RDONLY)
                one.bind(f"/proc/self/fd/{here}/{path.name}")  # a socket's path is short: unix(7)
                os.close(here)
        yield path
    finally:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        aside.rename(path)
