"""docs/security.md names a test for each promise, and none that is not there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/security.md").read_text()


def rows() -> list[str]:
    """Return the rows of the table of checks."""
    table = PAGE.partition("| check | where |")[2].partition("\n\n")[0]
    return table.splitlines()[2:]


def test_each_check_names_its_tests() -> None:
    assert len(rows()) > 20
    for row in rows():
        assert re.search(r"`tests/[\w/]+\.py`", row), row


def test_every_test_it_names_exists() -> None:
    named = re.findall(r"`(tests/[\w/.-]+)`", PAGE)
    assert len(named) > 20
    for name in named:
        path = ROOT / name
        assert path.exists(), name
        assert path.is_dir() or "\ndef test_" in path.read_text() or "    def test_" in path.read_text(), name
