"""Revisions of the project in git: is a name one, and the project as it was there."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from dindkit import process
from dindkit.errors import DindkitError, ToolMissingError
from dindkit.project import Project


def commit(project: Project, name: str) -> str:
    """Return the commit that `name` means in the project's repository, or an empty string.

    It is empty where git knows no such revision, where the project is in no repository, and without git.
    Raises DindkitError where git does not read the repository because it belongs to somebody else.
    """
    if not name or "\0" in name:
        return ""
    words = ["rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"]
    try:
        done = process.run(["git", "-C", project.root, *words], env=_environment(), check=False)
    except ToolMissingError:
        return ""
    if done.returncode and b"dubious ownership" in done.stderr:
        raise DindkitError(
            f"git does not read {project.root}: it belongs to another user.",
            f"Run: git config --global --add safe.directory {project.root}",
        )
    return "" if done.returncode else done.stdout.decode().strip()


def holding(project: Project, folder: Path) -> Project:
    """Return `project` with the root of the repository that holds `folder`, or with `folder` in none."""
    words = ["rev-parse", "--show-toplevel"]
    try:
        done = process.run(["git", "-C", folder, *words], env=_environment(), check=False)
    except ToolMissingError:
        return replace(project, root=folder)
    return replace(project, root=Path(done.stdout.decode().rstrip("\n")) if not done.returncode else folder)


def is_repository(project: Project) -> bool:
    """Tell whether git finds a repository at the root of `project`."""
    words = ["rev-parse", "--git-dir"]
    try:
        return not process.run(
            ["git", "-C", project.root, *words], env=_environment(), check=False
        ).returncode
    except ToolMissingError:
        return False


def check_out(project: Project, commit: str, folder: Path) -> None:
    """Write the project as it is in `commit` to `folder`, which is made; the repository stays as it is.

    Raises CommandError where git fails.
    """
    git: list[str | Path] = ["git", "-C", project.root]
    where, prefix = (
        process.run([*git, "rev-parse", word], env=_environment()).stdout.decode().rstrip("\n")
        for word in ("--absolute-git-dir", "--show-prefix")
    )
    folder.mkdir(parents=True)
    environment = _environment() | {
        "GIT_DIR": where,
        "GIT_WORK_TREE": str(folder),
        "GIT_INDEX_FILE": str(folder.with_name("index")),
    }
    same_bytes = ["-c", "core.symlinks=true", "-c", "core.autocrlf=false"]
    process.run(["git", *same_bytes, "read-tree", f"{commit}:{prefix}"], env=environment, cwd=folder)
    process.run(["git", *same_bytes, "checkout-index", "--all"], env=environment, cwd=folder)


def _environment() -> dict[str, str]:
    """Return the environment without what would lead git to another repository."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | {
        "LC_ALL": "C"
    }
