"""docs/contract.md names no test that is not there, and leaves no cell of its matrix without a word."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/contract.md").read_text("utf-8")


def tables() -> Iterator[list[list[str]]]:
    """Yield the rows of each table in the section about what was held to the contract."""
    section = PAGE.partition("## What was held to this contract\n")[2].partition("\n## ")[0]
    for found in re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE):
        yield [[cell.strip() for cell in line.strip("|").split("|")] for line in found.splitlines()]


def names(path: Path) -> set[str]:
    """Return the tests and classes of tests at the top of a module."""
    return {
        one.name
        for one in ast.parse(path.read_text()).body
        if isinstance(one, ast.FunctionDef | ast.ClassDef)
    }


def test_every_test_that_it_names_is_there() -> None:
    named = re.findall(r"`(tests/[\w./-]+)(?:::(\w+))?[^`]*`", PAGE)
    assert len(named) > 15
    for path, name in named:
        assert (ROOT / path).exists(), path
        assert not name or name in names(ROOT / path), f"{path}::{name}"


def test_every_cell_says_what_fills_it_or_why_it_is_empty() -> None:
    matrix, outer = tables()
    assert [len(matrix), len(outer)] == [7, 7]
    for row in (*matrix, *outer):
        assert len(row) == len(matrix[0] if row in matrix else outer[0])
        assert all(row)
    for row in matrix[2:]:
        for cell in row[1:]:
            assert "`tests/" in cell or re.match(r"empty: \w|built|\*full\*: the same", cell), cell
    for row in outer[2:]:
        assert "`tests/" in row[-1]
