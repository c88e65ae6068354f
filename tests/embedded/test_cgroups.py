"""The embedded engine's cgroups: controllers that were missing are enabled for it, and disabled after it.

A folder stands in for a hierarchy of cgroup v2, of which a machine has one: other engines are in that.
"""

from __future__ import annotations

from pathlib import Path, PosixPath

import pytest

from dindkit.embedded import cgroups
from dindkit.embedded.cgroups import Hierarchy


class Written(PosixPath):
    """A path that keeps all that is written to it, as the kernel takes each write for itself."""

    def write_text(self, text: str, *_more: object) -> int:
        with self.open("a") as file:
            return int(file.write(f"{text}\n"))


@pytest.fixture
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    top = Written(tmp_path)
    (tmp_path / "cgroup.controllers").write_text("cpu hugetlb memory\n")
    (tmp_path / "cgroup.subtree_control").write_text("memory\n")
    monkeypatch.setattr(cgroups, "hierarchies", lambda: [Hierarchy(top, unified=True)])
    return top


def test_what_was_missing_is_enabled_and_disabled(top: Path) -> None:
    missing = cgroups.missing_controllers()
    assert missing == ["cpu", "hugetlb"]
    assert cgroups.create("dindkit-one", missing) == [top / "dindkit-one"]
    assert (top / "dindkit-one").is_dir()
    cgroups.remove("dindkit-one", missing)
    assert not (top / "dindkit-one").exists()
    written = (top / "cgroup.subtree_control").read_text().split()
    assert written == ["memory", "+cpu", "+hugetlb", "-cpu", "-hugetlb"]


def test_what_was_enabled_stays(top: Path) -> None:
    (top / "cgroup.subtree_control").write_text("cpu hugetlb")
    assert cgroups.missing_controllers() == []
    cgroups.create("dindkit-one", [])
    cgroups.remove("dindkit-one", [])
    assert (top / "cgroup.subtree_control").read_text().split() == ["memory", "cpu", "hugetlb"]
