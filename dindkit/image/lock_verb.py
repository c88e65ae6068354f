"""`invoke lock`, with and without `--seal`: what it prints, and what lock-1.json describes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dindkit.errors import DindkitError
from dindkit.image import locking, seal
from dindkit.image.build_options import BuildOptions
from dindkit.image.locking import LockChange
from dindkit.packages import lock as locks
from dindkit.packages.lock import Change
from dindkit.printing import result
from dindkit.progress import Progress
from dindkit.project import Project


def run(
    project: Project,
    options: BuildOptions,
    progress: Progress,
    found: dict[str, Any],
    *,
    allow_downgrade: bool = False,
    only_seal: bool = False,
    all_locks: bool = False,
) -> None:
    """Write the locks, or only their ids; print what changed, and put it into `found`: lock-1.json.

    With `all_locks` the ids of all committed locks are written, whatever `options` name.
    """
    if all_locks and not only_seal:
        raise DindkitError("--all is for --seal: each suite and architecture is solved by itself.")
    if only_seal:
        changes = seal.seal_all(project, progress) if all_locks else seal.seal(project, options, progress)
        for one in changes:
            if one.written and one.lock.expected:
                result(f"{one.path.name} of {one.lock.image}: {one.lock.expected.image_id}")
        found["locks"] = [_lock(one) for one in changes]
    else:
        report(locking.lock(project, options, progress, allow_downgrade=allow_downgrade), found)


def report(changes: Sequence[LockChange], found: dict[str, Any]) -> None:
    """Print what has become of each lock, and put it into `found`."""
    for one in changes:
        result("\n".join(one.lines()))
    found["locks"] = [_lock(one) for one in changes]


def _lock(one: LockChange) -> dict[str, Any]:
    lock = one.lock
    return {
        "path": str(one.path),
        "image": lock.image,
        "suite": lock.suite,
        "architecture": lock.architecture,
        "engine": lock.engine,
        "identity": locks.identity(lock),
        "image_id": lock.expected.image_id if lock.expected else None,
        "packages": len(lock.rows),
        "written": one.written,
        "new": one.new,
        "changes": [_change(change) for change in one.changes],
    }


def _change(change: Change) -> dict[str, Any]:
    return {
        "name": change.name,
        "kind": change.kind,
        "old": change.old.version if change.old else None,
        "new": change.new.version if change.new else None,
    }
