"""The embedded engine boots from the image's own tree, whatever was done to it since it was laid out."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dindkit.embedded import by_root
from dindkit.embedded.paths import Paths
from dindkit.embedded.tree import extracted_tree, makes_layers, matches_tree
from dindkit.errors import ArchiveError, DamagedError
from dindkit.formats import layer
from dindkit.formats.contents import ContentStore
from dindkit.formats.layer import Layer
from dindkit.formats.layer_store import LayerStore
from dindkit.formats.tree import Tree
from dindkit.image import built as built_images
from dindkit.image.build import Built
from dindkit.progress import Progress
from dindkit.project import Project
from tests.engine.test_load import spoiled
from tests.support.host import share_trees

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


def test_an_engine_deletes_no_tree_that_it_shares(project: Project, tmp_path: Path) -> None:
    """One that has started deletes what others of its state folder were started from."""
    one, two = (Project(project.root, tmp_path / name, project.cache) for name in ("one", "two"))
    program = Paths(one).trees / "tree/usr/bin/dash"
    program.parent.mkdir(parents=True)
    program.touch()
    share_trees(one, two.state)
    (shared,) = Paths(two).trees.iterdir()
    assert (shared / "usr/bin/dash").is_file()
    by_root.delete(shared)
    assert program.is_file()


def small_tree(contents: ContentStore) -> Tree:
    tree = Tree(contents)
    for path in ("usr/bin/dash", "etc/passwd", "etc/shadow", "etc/shells"):
        tree.put(path, "content")
    tree.add(
        replace(tree.entries["etc/shells"], path="usr/bin/sh", kind="symlink", link="dash", digest="", size=0)
    )
    tree.add(replace(tree.entries["usr/bin/dash"], path="usr/bin/twin", kind="hardlink", link="usr/bin/dash"))
    return tree


def laid_out(tree: Tree, tmp_path: Path) -> Path:
    folder = tmp_path / "trees" / "one"
    folder.mkdir(parents=True)
    layer.extract_tree(tree, folder)
    return folder


def in_two_layers(tree: Tree, store: LayerStore) -> tuple[Layer, Layer]:
    """Keep `tree` as a layer, and one below it with other files, of which some are replaced or removed."""
    below = Tree(tree.contents)
    for path in ("etc/passwd", "usr/bin/dash", "usr/bin/removed"):
        below.put(path, "below")
    layers = store.add(layer.difference(below, None), tree.contents)
    return layers, store.add(layer.difference(tree, below), tree.contents)


@pytest.mark.parametrize("change", CHANGES)
def test_each_change_is_seen(tmp_path: Path, contents: ContentStore, change: str) -> None:
    tree, store = small_tree(contents), LayerStore(tmp_path / "layers")
    layers, folder = in_two_layers(tree, store), laid_out(tree, tmp_path)
    assert matches_tree(tree, folder)
    assert makes_layers(store, layers, folder)
    CHANGES[change](folder)
    assert not matches_tree(tree, folder)
    assert not makes_layers(store, layers, folder)


def forge(store: LayerStore, one: Layer, change: Callable[[list[Any]], None]) -> None:
    """Change the rows of a layer's index, which says again that it is whole."""
    index = store.path(one.diff_id).with_name("index.json")
    rows = json.loads(index.read_bytes().partition(b"\n")[2])
    change(next(row for row in rows if row[0] == "usr/bin/dash"))
    text = json.dumps(rows).encode()
    index.write_bytes(hashlib.sha256(text).hexdigest().encode() + b"\n" + text)


#: What is done to a row of an index, and to the folder so that both agree.
FORGERIES: dict[str, tuple[Callable[[list[Any]], None], Callable[[Path], object]]] = {
    "content": (
        lambda row: row.__setitem__(8, hashlib.sha256(b"evil!!!").hexdigest()),
        lambda folder: (folder / "usr/bin/dash").write_text("evil!!!"),
    ),
    "longer": (
        lambda row: row.__setitem__(slice(6, 9), [4, "", hashlib.sha256(b"evil").hexdigest()]),
        lambda folder: (folder / "usr/bin/dash").write_text("evil"),
    ),
    "set-id": (
        lambda row: row.__setitem__(2, 0o4644),
        lambda folder: (folder / "usr/bin/dash").chmod(0o4644),
    ),
    "owner": (
        lambda row: row.__setitem__(3, 1000),
        lambda folder: os.chown(folder / "usr/bin/dash", 1000, 0),
    ),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_an_index_is_not_believed(tmp_path: Path, contents: ContentStore, forgery: str) -> None:
    tree, store = small_tree(contents), LayerStore(tmp_path / "layers")
    layers, folder = in_two_layers(tree, store), laid_out(tree, tmp_path)
    row, change = FORGERIES[forgery]
    change(folder)
    forge(store, layers[1], row)
    assert not makes_layers(store, layers, folder)


def test_what_a_layer_above_has_replaced_is_held_to_its_layer(tmp_path: Path, contents: ContentStore) -> None:
    tree, store = small_tree(contents), LayerStore(tmp_path / "layers")
    layers, folder = in_two_layers(tree, store), laid_out(tree, tmp_path)
    path = store.path(layers[0].diff_id)
    path.write_bytes(path.read_bytes().replace(b"below", b"other"))
    assert not makes_layers(store, layers, folder)


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


def test_the_other_name_of_a_file_that_a_layer_has_replaced(tmp_path: Path, contents: ContentStore) -> None:
    """Its content is in no layer under its own name: it is held to the tree."""
    below, store = Tree(contents), LayerStore(tmp_path / "layers")
    below.put("a", "one")
    below.add(replace(below.entries["a"], path="b", kind="hardlink", link="a"))
    above = Tree(contents)
    above.put("a", "two")
    layers = [store.add(layer.difference(one, None), contents) for one in (below, above)]
    tree = Tree(contents)
    for one in layers:
        layer.apply(tree, store.entries(one, contents))
    folder = laid_out(tree, tmp_path)
    assert [(folder / name).read_text() for name in "ab"] == ["two", "one"]
    assert matches_tree(tree, folder)
    (folder / "b").write_text("0ne")
    assert not matches_tree(tree, folder)
    assert not makes_layers(store, layers, folder)
