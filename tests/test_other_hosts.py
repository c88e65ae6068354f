"""Hosts that are not Linux, with an engine: what can be shown of them here.

A stand-in for such a host: this Python, which says that it is on macOS, without the functions that CPython
has on Linux alone, and without some modules that macOS has. Native Windows is not meant: WSL2 is Linux. The
engine runs the maintainer scripts, as Docker Desktop's would.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dindkit.engine.discover import Engine
from tests.support.local_project import LocalProject

ROOT = Path(__file__).parents[1]

#: Takes that away, once the libraries, which look after themselves, are loaded.
#: https://docs.python.org/3/library/os.html says of each function where it is available.
TAKE_AWAY = """
import os, platform, sys
import docker, requests, rich.console, rich.progress, invoke, jinja2, gnupg, zstandard
import subprocess, tempfile, shutil, tarfile, asyncio, concurrent.futures, http.server, sqlite3
for name in ("fcntl", "grp", "pwd", "resource", "syslog", "termios", "tty", "pty"):
    sys.modules[name] = None
for name in (
    "fork forkpty getxattr listxattr memfd_create mkfifo mknod removexattr sched_getaffinity setxattr"
    " copy_file_range eventfd pidfd_open posix_fallocate splice O_PATH"
).split():
    if hasattr(os, name):
        delattr(os, name)
platform.system = lambda: "Darwin"
"""


def run(script: str, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", TAKE_AWAY + script, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_verb_can_be_imported() -> None:
    """All but those that start or measure things on this machine: these are for Linux."""
    script = """
import importlib, json, pkgutil
import tasks, dindkit
linux = ("dindkit.sandbox.chroot_worker", "dindkit.sandbox.worker", "dindkit.sandbox.emulation",
    "dindkit.bench", "dindkit.devtools", "dindkit.tools.terminal", "dindkit.tools.shell",
    "dindkit.sandbox.chroot")
names = [one.name for one in pkgutil.walk_packages(dindkit.__path__, "dindkit.")]
for name in names:
    if not name.startswith(linux):
        importlib.import_module(name)
print(json.dumps(names))
"""
    names = json.loads(run(script))
    assert {
        "dindkit.review.audit",
        "dindkit.image.locking",
        "dindkit.registry.push",
        "dindkit.review.verify",
    } <= {*names}


@pytest.mark.engine
def test_an_image_is_locked_built_and_verified(
    engine: Engine, small_project: LocalProject, tmp_path: Path
) -> None:
    script = """
del sys.modules["fcntl"]  # files.locked needs it, and macOS has it
import tasks
from pathlib import Path
from dindkit.image import lock_verb, locking, output, seal
from dindkit.image.build import build, build_and_write
from dindkit.image.build_options import BuildOptions
from dindkit.progress import Progress
from dindkit.project import Project
from dindkit.review import audit, verify

project, options, progress = Project(*map(Path, sys.argv[1:4])), BuildOptions("app"), Progress()
locking.lock(project, options, progress)
built, _ = build_and_write(project, options, progress, output.parse(sys.argv[4]))
seal.seal(project, options, progress)
verify.run(project, options, progress, sys.stderr)
audit.audit(project, options, progress, sys.stderr)
print(built.image_id)
"""
    here = small_project.build()
    folders = (small_project.project.root, tmp_path / "state", small_project.project.cache)
    said = run(script, *map(str, folders), str(tmp_path / "app.tar"), DOCKER_HOST=engine.host)
    assert said.split() == [here.image_id]
    assert (tmp_path / "app.tar").stat().st_size > 0
