"""Temporary files in memory, for a run of all tests: most are data roots that nobody looks at again.

Engines write much that has to be on disk before they go on; in memory it is there at once. That is a sixth of
the run. What a user's engine does on a disk is seen by `invoke smoke`, which the gate runs before.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

#: Names the folder for temporary files on disk, for the workers of pytest-xdist.
DISK = "DINDKIT_TEST_DISK"
#: Bytes. All tests had 7 GB at once, in files and in processes, with four workers.
NEEDED = 12_000_000_000


def temporary_files_in_memory() -> Callable[[], None]:
    """Let this process, and what it starts, have its temporary files in memory where there is enough of it.

    Return what ends that, and deletes them. Root only.
    """
    if _available() < NEEDED:
        return lambda: None
    before = os.environ.get("TMPDIR")
    os.environ[DISK] = tempfile.gettempdir()
    folder = Path(tempfile.mkdtemp(prefix="dind-"))  # short: sockets are in it
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=1777", "dindkit-tests", folder], check=True)
    _use(str(folder))

    def leave() -> None:
        _use(before)
        subprocess.run(["umount", "--lazy", folder], check=True)
        shutil.rmtree(folder)

    return leave


def on_disk() -> Path:
    """Return a folder for temporary files that are on disk in any case.

    Files in memory count as that of the container that writes them, and the kernel cannot write them out.
    """
    return Path(os.environ.get(DISK, tempfile.gettempdir()))


def _available() -> int:
    """Return how many bytes of memory programs can have without swapping: proc_meminfo(5)."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))


def _use(folder: str | None) -> None:
    if folder is None:
        os.environ.pop("TMPDIR", None)
    else:
        os.environ["TMPDIR"] = folder
    tempfile.tempdir = None  # it is looked up anew
