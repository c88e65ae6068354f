"""The engine of root: in namespaces of its own, but in the host's network, with a cgroup for all of it.

What it changes on the host is recorded before it starts, and undone when it stops.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from dindkit.embedded import bridges, cgroups, data_root, host_state, machine, packet_filter
from dindkit.embedded.paths import Paths, Record
from dindkit.embedded.tree import extracted_tree
from dindkit.errors import EngineError
from dindkit.image.built import Built
from dindkit.interrupts import deferred
from dindkit.process import run
from dindkit.progress import Progress


def require(progress: Progress) -> None:
    """Root needs nothing more."""
    del progress


def lay_out(paths: Paths, built: Built, progress: Progress) -> Path:
    """Return the folder with the tree of `built`; see `extracted_tree`."""
    return extracted_tree(paths, built, progress)


def link_layers(paths: Paths, built: Built, tree: Path, progress: Progress) -> None:
    """Let a new engine begin with the layers of `built`, and any have them as the tree is: see data_root."""
    if not data_root.can_have_layers(built):
        return
    if paths.data.exists():
        data_root.mend(paths.data, built.store, built.layers, tree)
        return
    with progress.step("link the engine's layers"):
        paths.begun.touch()
        data_root.make(paths.data, built.store, built.layers, tree)


def boot(paths: Paths, built: Built, tree: Path, record: Record, cgroup2: bool) -> None:
    """Start the engine; when this returns it is in its cgroup, and so counts as running."""
    version = "2" if cgroup2 else cgroups.version()
    in_tree = _runner(paths, tree)
    before = host_state.read(in_tree)
    controllers = cgroups.missing_controllers()
    # This is written before anything is changed, so that `stop` can clean up after a crash.
    record = replace(record, controllers=controllers, before=before)
    record.write(paths.record)
    if bridges.DEFAULT not in before.links:
        with deferred():
            replace(record, bridge=bridges.create(in_tree, paths.bridge)).write(paths.record)
            bridges.name_default(in_tree, paths.bridge)
    folders = cgroups.create(paths.cgroup, controllers)
    paths.link_socket()
    command = machine.in_background(paths, folders, [*machine.UNSHARE, "--ipc", "--uts", "--cgroup"])
    command += machine.boot(paths, built, tree, version)
    with deferred():
        run(command)


def _runner(paths: Paths, tree: Path) -> packet_filter.Run:
    """Return a function that runs a program of `tree` in the host's network namespace."""
    command: list[str | Path] = [*machine.UNSHARE, "sh", machine.script("boot.sh"), paths.machine, tree]
    command += ["none", "--", "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]

    def run_in_tree(argv: list[str], data: bytes) -> bytes:
        paths.machine.mkdir(exist_ok=True)
        return run([*command, *argv], input=data).stdout

    return run_in_tree


def require_here(record: Record) -> None:
    """Raise EngineError where the engine cannot be stopped from here."""
    if record.before is not None and record.before.namespace != host_state.namespace():
        raise EngineError(
            "The embedded engine was started in another network namespace.", "Stop it from there."
        )


def processes(paths: Paths) -> list[int]:
    """Return the ids of all processes of the engine."""
    return cgroups.processes(paths.cgroup)


def restore(paths: Paths, record: Record) -> None:
    """Undo what the engine has changed on the host; its processes must have ended.

    Raises EngineError where no tree is left whose programs could do that.
    """
    if record.before is not None:
        trees = sorted(paths.trees.glob("*"), key=lambda tree: tree.name != record.tree)
        tree = next((tree for tree in trees if (tree / "usr/bin/ip").exists()), None)
        if tree is None:
            raise EngineError(
                "The tree that the engine was started from is gone, and with it the programs to clear up.",
                "Run: invoke engine.start, and then invoke engine.stop",
            )
        known = bridges.Known(paths.bridge, record.bridge, paths.networks)
        host_state.restore(record.before, _runner(paths, tree), known)
    cgroups.remove(paths.cgroup, record.controllers)


def delete(folder: Path) -> None:
    """Delete `folder`; another process may do the same."""
    shutil.rmtree(folder, ignore_errors=True)
