"""Kill a build in the middle of its sandbox, and look for what it leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from dindkit.formats.tree import Tree
from tests.support.local_project import tar_of

#: Stands still at the moment of its argument, and says so by making the file `reached`.
HOLDER = """
import importlib
import sys
import time
from pathlib import Path
from dindkit.sandbox.interface import ScriptRun

module, name, folder, tree, moment, reached, seconds = sys.argv[1:]

def pause(at):
    if moment == at:
        Path(reached).touch()
        time.sleep(1000 if at == "taking" else 0.05)

def feed(out):
    data = Path(tree).read_bytes()
    out.write(data[:len(data) // 2])
    for start in range(len(data) // 2, len(data), 10240):
        pause("feeding")
        out.write(data[start:start + 10240])
    pause("running")

def take(stream):
    stream.read(100000)
    pause("taking")
    while stream.read(1 << 20):
        pass

script = "true"
if moment == "running":
    script = f"(setsid sleep {seconds} &); setsid sleep {seconds} & sleep {seconds}"
sandbox = getattr(importlib.import_module(module), name)
sandbox(Path(folder)).run(ScriptRun(feed, script, take, {}, 500_000_000))
"""


def leftovers(folder: Path, *words: str) -> list[str]:
    """Return what is left: mounts on `folder`, and processes that name it or one of `words`."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found = [line for line in mounts if str(folder) in line]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ").strip()
            except OSError:
                continue
            if any(word in line for word in (str(folder), *words)):
                found.append(line)
    return found


def sleeping(folder: Path, seconds: str) -> int:
    """Return how many of the script's processes sleep."""
    return sum(line == f"sleep {seconds}" for line in leftovers(folder, f"sleep {seconds}"))


def kill_and_look(sandbox: type, tmp_path: Path, tree: Tree, number: signal.Signals, moment: str) -> None:
    """Send `number` to a run of `sandbox` at `moment`; assert that neither processes nor files stay."""
    (tmp_path / "tree.tar").write_bytes(tar_of(tree))
    folder, reached = tmp_path / "sandbox", tmp_path / "reached"
    seconds = f"1000.{os.getpid()}"
    paths = [str(folder), str(tmp_path / "tree.tar"), moment, str(reached), seconds]
    words = [sys.executable, "-c", HOLDER, sandbox.__module__, sandbox.__name__, *paths]
    holder = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not reached.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.2)
    # One in the script's session, one in its own, and one whose parent has ended.
    while moment == "running" and sleeping(folder, seconds) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert holder.poll() is None
    assert leftovers(folder, seconds)
    holder.send_signal(number)
    holder.wait(30)
    deadline = time.monotonic() + 20
    while (leftovers(folder, seconds) or any(folder.iterdir())) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert leftovers(folder, seconds) == []
    assert [path.name for path in folder.iterdir()] == []
