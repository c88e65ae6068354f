"""The embedded engine's own cgroup in every hierarchy of the host, for all processes that it starts.

The engine is recognised by it as well: every process in this cgroup belongs to the engine. Follows cgroups(7)
and the kernel's cgroup-v2 documentation.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

from dindkit.errors import EngineError


@dataclass(frozen=True)
class Hierarchy:
    """One cgroup hierarchy: where it is mounted, and whether it is of version 2."""

    mount: Path
    unified: bool


def hierarchies() -> list[Hierarchy]:
    """Return each mounted hierarchy once, with its first mount point."""
    found: dict[str, Hierarchy] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        ours, _, filesystem = line.partition(" - ")
        device, _root, mount = ours.split()[2:5]
        kind = filesystem.split()[0]
        if kind in ("cgroup", "cgroup2"):
            found.setdefault(device, Hierarchy(Path(mount), kind == "cgroup2"))
    return list(found.values())


def version() -> str:
    """Return the cgroup version that programs of this host use: `1` or `2`.

    Raises EngineError where no hierarchy is mounted.
    """
    mounted = hierarchies()
    if not mounted:
        raise EngineError(
            "No cgroup file system is mounted on this host, and containers need one.",
            "Run: mount -t cgroup2 cgroup2 /sys/fs/cgroup",
        )
    return "2" if all(hierarchy.unified for hierarchy in mounted) else "1"


def missing_controllers() -> list[str]:
    """Return the v2 controllers that our cgroup needs, and that the top cgroup does not enable yet."""
    missing = []
    for top in (hierarchy.mount for hierarchy in hierarchies() if hierarchy.unified):
        on = (top / "cgroup.subtree_control").read_text().split()
        available = (top / "cgroup.controllers").read_text().split()
        missing += [controller for controller in available if controller not in on]
    return missing


def create(name: str, controllers: list[str]) -> list[Path]:
    """Make the cgroup `name` at the top of every hierarchy, with the v2 `controllers`; return its folders."""
    folders = []
    for hierarchy in hierarchies():
        folder = hierarchy.mount / name
        folder.mkdir(exist_ok=True)
        folders.append(folder)
        if hierarchy.unified:
            for controller in controllers:
                # Containers do without a controller that the kernel refuses.
                with contextlib.suppress(OSError):
                    (hierarchy.mount / "cgroup.subtree_control").write_text(f"+{controller}")
        # In version 1 a new cpuset has no processor and no memory, so no process can join it.
        for knob in ("cpuset.cpus", "cpuset.mems"):
            if not hierarchy.unified and (folder / knob).exists():
                (folder / knob).write_text((hierarchy.mount / knob).read_text())
    return folders


def _below(top: Path) -> list[Path]:
    """Return `top` and all cgroups below it, lowest first."""
    return [Path(folder) for folder, _, _ in os.walk(top, topdown=False)]


def processes(name: str) -> list[int]:
    """Return the ids of all processes in the cgroup `name`, or below it."""
    found: set[int] = set()
    for hierarchy in hierarchies():
        for folder in _below(hierarchy.mount / name):
            with contextlib.suppress(OSError):  # a container that ends meanwhile removes its folder
                found.update(int(word) for word in (folder / "cgroup.procs").read_text().split())
    return sorted(found - {0})


def remove(name: str, controllers: list[str], seconds: float = 10.0) -> None:
    """Remove the cgroup `name` with all below it, and disable the `controllers` that `create` enabled.

    Waits up to `seconds` until the kernel has removed processes that have just ended.
    """
    deadline = time.monotonic() + seconds
    for hierarchy in hierarchies():
        top = hierarchy.mount / name
        while top.exists():
            try:
                for folder in _below(top):
                    folder.rmdir()
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        if hierarchy.unified:
            for controller in controllers:
                with contextlib.suppress(OSError):  # another process uses it by now
                    (hierarchy.mount / "cgroup.subtree_control").write_text(f"-{controller}")
