"""The embedded engine boots from the image's own tree, whatever was done to it since it was laid out."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dindkit.embedded.paths import Paths
from dindkit.embedded.tree import extracted_tree, matches_tree
from dindkit.errors import ArchiveError, DamagedError
from dindkit.formats import layer
from dindkit.formats.tree import ContentStore, Tree
from dindkit.image import built as built_images
from dindkit.image.build import Built
from dindkit.progress import Progress
from dindkit.project import Project
from tests.engine.test_load import spoiled

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to lay out owners")


def swap(folder: Path) -> None:
    """Change a program, and keep its size and times."""
    path = folder / "usr/bin/dash"
    before = path.stat()
    path.write_bytes(bytes(before.st_size))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def relink(path: Path, target: Path) -> None:
    """Put a link in the place of `path`, whose content stays to be had at `target`."""
    if path.is_symlink():
        path.unlink()
    else:
        path.rename(target)
    path.symlink_to(target)


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": swap,
    "set-id": lambda folder: (folder / "usr/bin/dash").chmod(0o4755),
    "owner": lambda folder: os.chown(folder / "etc/passwd", 1000, 0),
    "link": lambda folder: relink(folder / "usr/bin/sh", Path("cat")),
    "more": lambda folder: (folder / "etc/ld.so.preload").write_text("/evil.so"),
    "less": lambda folder: (folder / "etc/shadow").unlink(),
    "a link for a file": lambda folder: relink(folder / "etc/shells", folder.parent / "shells"),
    "capability": lambda folder: os.setxattr(
        folder / "usr/bin/dash", "security.capability", bytes.fromhex("0100000200200000") + bytes(12)
    ),
}


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    made = Paths(Project(tmp_path, tmp_path / "state", tmp_path / "cache"))
    made.folder.mkdir(parents=True)
    return made


def test_a_tree_that_was_changed_is_laid_out_anew(paths: Paths, base: Built) -> None:
    said = io.StringIO()
    progress = Progress(said)
    folder = extracted_tree(paths, base, progress)
    mark = folder.stat().st_ctime_ns
    assert extracted_tree(paths, base, progress).stat().st_ctime_ns == mark
    assert "warning" not in said.getvalue()
    for change in (swap, CHANGES["more"]):
        change(folder)
        said.truncate(0)
        extracted_tree(paths, base, progress)
        assert "is not the tree of dindkit/base:trixie: it is laid out anew." in said.getvalue()
        assert folder.stat().st_ctime_ns != mark
        mark = folder.stat().st_ctime_ns
    assert (folder / "usr/bin/dash").read_bytes()[:4] == b"\x7fELF"
    assert not (folder / "etc/ld.so.preload").exists()
    assert [path.name for path in paths.trees.iterdir()] == [folder.name]


@pytest.mark.parametrize("change", CHANGES)
def test_each_change_is_seen(tmp_path: Path, contents: ContentStore, change: str) -> None:
    tree = Tree(contents)
    for path in ("usr/bin/dash", "etc/passwd", "etc/shadow", "etc/shells"):
        tree.put(path, "content")
    tree.add(
        replace(tree.entries["etc/shells"], path="usr/bin/sh", kind="symlink", link="dash", digest="", size=0)
    )
    tree.add(replace(tree.entries["usr/bin/dash"], path="usr/bin/twin", kind="hardlink", link="usr/bin/dash"))
    folder = tmp_path / "trees" / "one"
    folder.mkdir(parents=True)
    layer.extract_tree(tree, folder)
    assert matches_tree(tree, folder)
    CHANGES[change](folder)
    assert not matches_tree(tree, folder)


def test_a_hard_link_that_was_replaced_is_seen(tmp_path: Path, contents: ContentStore) -> None:
    tree = Tree(contents)
    tree.put("a", "content")
    tree.add(replace(tree.entries["a"], path="b", kind="hardlink", link="a"))
    (tmp_path / "tree").mkdir()
    layer.extract_tree(tree, tmp_path / "tree")
    assert matches_tree(tree, tmp_path / "tree")
    assert stat.S_ISREG((tmp_path / "tree/b").stat().st_mode)
    (tmp_path / "tree/b").unlink()
    (tmp_path / "tree/b").write_text("evil")
    assert not matches_tree(tree, tmp_path / "tree")


def test_an_archive_of_another_image_lays_out_nothing(paths: Paths, base: Built, tmp_path: Path) -> None:
    forged = replace(base, image_id="sha256:" + "0" * 64)
    with pytest.raises(ArchiveError, match="is not the image that was built"):
        extracted_tree(paths, forged, Progress(quiet=True))
    assert list(paths.trees.iterdir()) == []
    assert built_images.read(base.folder, base.inputs) == base
    with pytest.raises(DamagedError, match="it is not what was built"):
        extracted_tree(paths, spoiled(base, tmp_path), Progress(quiet=True))
    assert list(paths.trees.iterdir()) == []
