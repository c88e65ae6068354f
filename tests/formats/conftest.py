"""Two images that differ in one file."""

from __future__ import annotations

from pathlib import Path

import pytest

from dindkit.formats.contents import ContentStore
from dindkit.formats.tree import Tree
from tests.support.image_archives import Members, members, write_image


@pytest.fixture
def good(tmp_path: Path, contents: ContentStore) -> Members:
    tree = Tree(contents)
    tree.put("etc/passwd", "root")
    return members(write_image(tmp_path / "good", contents, tree))


@pytest.fixture
def evil(tmp_path: Path, contents: ContentStore) -> Members:
    tree = Tree(contents)
    tree.put("etc/passwd", "evil")
    return members(write_image(tmp_path / "evil", contents, tree))
