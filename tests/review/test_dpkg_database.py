"""dpkg's database in an image that nobody has checked: however odd, it takes neither memory nor hours."""

from __future__ import annotations

import pytest

from dindkit.formats.contents import ContentStore
from dindkit.formats.entry import Entry
from dindkit.formats.tree import Tree, TreeError
from dindkit.review import dpkg_database
from dindkit.review.dpkg_database import DPKG


def test_a_database_of_many_bytes(contents: ContentStore, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = Tree(contents)
    for number in range(3):
        tree.put(f"{DPKG}/info/p{number}.list", "/x\n" * 10)
    assert dpkg_database.read(tree).owner("x") == "p0"
    monkeypatch.setattr("dindkit.review.dpkg_database.MAX_TEXT", 80)
    with pytest.raises(TreeError, match="has more than 80 bytes"):
        dpkg_database.read(tree)


def test_links_to_links_without_end(contents: ContentStore) -> None:
    """Each of some thousand paths leads through forty links of some thousand parts."""
    tree = Tree(contents)
    for number in range(40):
        link = f"l{number + 1}/" + "x/../" * 800
        tree.add(Entry(f"l{number}", "symlink", 0o777, link=link))
    tree.put(f"{DPKG}/info/p.list", "".join(f"/l0/{number}/x\n" for number in range(100_000)))
    with pytest.raises(TreeError, match="leads through links to links without end"):
        dpkg_database.read(tree)


def test_a_path_that_no_system_takes(contents: ContentStore) -> None:
    """It is left as it is: looking up each of its folders would take hours."""
    tree = Tree(contents)
    long = "a/" * 2_000_000 + "x"
    tree.put(f"{DPKG}/info/p.list", f"/{long}\n/etc/x\n")
    assert dpkg_database.read(tree).owners == {long: ("p",), "etc/x": ("p",)}
