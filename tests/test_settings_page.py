"""docs/settings.md and the entrypoint name the same variables."""

from __future__ import annotations

import re

from dindkit.project import Project

VARIABLE = re.compile(r"\bDIND_[A-Z_]+\b")


def test_every_variable_is_documented_and_every_documented_one_is_read() -> None:
    root = Project.here().root
    page = (root / "docs/settings.md").read_text()
    documented = set(re.findall(r"^\| `(DIND_[A-Z_]+)`", page, re.MULTILINE))
    files = [
        path for path in (root / "images/dind/rootfs").rglob("*") if path.is_file() and not path.is_symlink()
    ]
    read = {name for path in files for name in VARIABLE.findall(path.read_text())}
    assert documented == read
