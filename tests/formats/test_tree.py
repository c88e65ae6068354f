"""A tree holds only paths that lead to one place each; whoever lays it out never leaves its folder."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from dindkit.errors import DamagedError
from dindkit.formats import folder, layer
from dindkit.formats.entry import Entry
from dindkit.formats.tree import ContentStore, Tree, TreeError, read_tar

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="files of other owners need root")


@pytest.fixture
def linked(contents: ContentStore) -> Tree:
    tree = Tree(contents)
    tree.put("usr/sbin/init", "init")
    tree.add(Entry("sbin", "symlink", 0o777, link="usr/sbin"))
    tree.add(Entry("out", "symlink", 0o777, link="/etc"))
    return tree


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: tree.put("out/passwd", "root::0:0"),
        lambda tree: tree.put("out/deep/passwd", "root::0:0"),
        lambda tree: tree.put("sbin/init", "other"),
        lambda tree: tree.put("usr/sbin/init/below", "a file is no folder"),
        lambda tree: tree.add(Entry("out/folder", "dir", 0o755)),
        lambda tree: tree.add(Entry("usr", "symlink", 0o777, link="/etc")),
        lambda tree: tree.add(Entry("", "symlink", 0o777, link="/etc")),
        lambda tree: tree.edit("out", "through the link"),
        lambda tree: tree.edit("missing", ""),
        lambda tree: Tree(tree.contents, [*tree.entries.values(), Entry("out/x", "file", 0o644)]),
        lambda tree: Tree(
            tree.contents, [Entry("a/b", "file", 0o644), Entry("a", "symlink", 0o777, link="/")]
        ),
        lambda tree: layer.apply(tree, [Entry("out/x", "file", 0o644)]),
        lambda tree: layer.apply(tree, [Entry("out/.wh.x", "file", 0o644)]),
        lambda tree: layer.apply(tree, [Entry("out/.wh..wh..opq", "file", 0o644)]),
        lambda tree: layer.apply(tree, [Entry("usr/.wh...", "file", 0o644)]),
        lambda tree: layer.apply(tree, [Entry("usr/.wh..", "file", 0o644)]),
        lambda tree: layer.apply(tree, [Entry("usr/.wh.", "file", 0o644)]),
        lambda tree: layer.apply(tree, [Entry("", "file", 0o644)]),
    ],
)
def test_no_path_leads_through_a_link(linked: Tree, change: Callable[[Tree], object]) -> None:
    before = dict(linked.entries)
    with pytest.raises(TreeError, match="is refused"):
        change(linked)
    assert linked.entries == before


CLIMBING = ["../x", "a/../../x", "/x", "//x", "a//x", "./x", "a/./x", ".", "..", "a/", "a\0b"]


@pytest.mark.parametrize("path", CLIMBING)
def test_a_path_that_is_not_a_plain_one(contents: ContentStore, path: str) -> None:
    tree = Tree(contents)
    tree.put("a/file", "")
    with pytest.raises(TreeError, match="is not a plain path"):
        tree.put(path, "")
    with pytest.raises(TreeError, match="is not a plain path"):
        tree.add(Entry("a/link", "hardlink", 0o644, link=path))
    with pytest.raises(TreeError, match="is not a plain path"):
        layer.apply(tree, [Entry(path, "dir", 0o755)])
    assert sorted(tree.entries) == ["", "a", "a/file"]


def test_what_a_layer_may_do(linked: Tree) -> None:
    layer.apply(
        linked,
        [
            Entry("out", "dir", 0o755),  # in the place of a link
            Entry("out/x", "file", 0o644, digest=linked.entries["usr/sbin/init"].digest),
            Entry("usr", "symlink", 0o777, link="/"),  # in the place of a folder and all below it
            Entry("nowhere/.wh.x", "file", 0o644),
        ],
    )
    assert sorted(linked.entries) == ["", "out", "out/x", "sbin", "usr"]


Member = tuple[str, bytes, str]


def stream(*members: Member) -> io.BytesIO:
    """Return a tar of members (name, type, link), which no tree has looked at."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, kind, link in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.mode = kind, link, 0o4755
            info.size = 4 if kind == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(b"evil"))
    out.seek(0)
    return out


FILE, LINK, TWIN, DIR, FIFO = b"0", b"2", b"1", b"5", b"6"


def escapes(outside: Path) -> list[list[Member]]:
    up = os.path.relpath(outside, "/")
    return [
        [("sbin", LINK, str(outside)), ("sbin/evil", FILE, "")],
        [("sbin", LINK, str(outside)), ("sbin/evil", LINK, "/")],
        [("sbin", LINK, str(outside)), ("sbin/evil", DIR, "")],
        [("sbin", LINK, str(outside)), ("sbin/evil", FIFO, "")],
        [("sbin", LINK, str(outside)), ("x", FILE, ""), ("sbin/evil", TWIN, "x")],
        [("sbin", LINK, str(outside)), ("sbin", FILE, "")],
        [("sbin", LINK, str(outside)), ("evil", TWIN, "sbin/there")],
        [("sbin", LINK, str(outside)), ("usr", LINK, "sbin"), ("usr/evil", FILE, "")],
        [("there", LINK, str(outside / "there")), ("there", FILE, "")],
        [(f"{'../' * 40}{up}/evil", FILE, "")],
        [(f"{outside}/evil", FILE, "")],
        [("evil", TWIN, f"{'../' * 40}{up}/there")],
        [("evil", TWIN, f"{outside}/there")],
        [(f"{outside}", DIR, "")],
    ]


@pytest.mark.parametrize("number", range(14))
def test_nothing_is_laid_out_elsewhere(tmp_path: Path, number: int) -> None:
    """Held to it alone: no package was checked, and no tree refused a path."""
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.mkdir()
    inside.mkdir()
    (outside / "there").write_text("mine")
    before = outside.stat()
    with pytest.raises((OSError, tarfile.TarError)):
        folder.unpack(stream(*escapes(outside)[number]), str(inside))
    assert [path.name for path in outside.iterdir()] == ["there"]
    assert (outside / "there").read_text() == "mine"
    assert (outside / "there").stat().st_nlink == 1
    assert (outside.stat().st_mode, outside.stat().st_mtime_ns) == (before.st_mode, before.st_mtime_ns)


@ROOT
def test_a_tree_that_was_tampered_with_is_not_laid_out_elsewhere(tmp_path: Path, linked: Tree) -> None:
    """What lays out a tree does not rely on the tree's own refusals."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "tree").mkdir()
    linked.entries["out"] = Entry("out", "symlink", 0o777, link=str(outside))
    linked.entries["out/evil"] = Entry("out/evil", "dir", 0o4755)
    with pytest.raises(OSError, match="out"):
        layer.extract_tree(linked, tmp_path / "tree")
    assert list(outside.iterdir()) == []


@ROOT
def test_what_is_laid_out_is_packed_again(tmp_path: Path, contents: ContentStore) -> None:
    tree = Tree(contents)
    deep = "/".join(["d"] * 2100)  # longer than any path may be that is handed over as a whole
    tree.put(f"{deep}/file", "deep", 0o4755)
    tree.put("a/file", "x" * 100_000, 0o2640, mtime=1_600_000_000)
    tree.add(Entry("a/twin", "hardlink", 0o2640, mtime=1_600_000_000, link="a/file"))
    tree.add(Entry("a-b", "symlink", 0o777, uid=7, gid=8, mtime=5, link="/nowhere"))
    tree.add(Entry("null", "char", 0o666, device=(1, 3)))
    tree.add(Entry("pipe", "fifo", 0o600, uid=3))
    for number in range(200):  # more folders than are kept open
        tree.put(f"many/{number}/file", str(number))
    (tmp_path / "tree").mkdir()
    out = io.BytesIO()
    try:
        layer.extract_tree(tree, tmp_path / "tree")
        folder.pack(str(tmp_path / "tree"), out)
    finally:
        subprocess.run(["rm", "-r", tmp_path / "tree"], check=True)  # too deep for Python's own
    out.seek(0)
    again = Tree(contents, read_tar(out, contents))
    again.entries[""] = tree.entries[""]
    assert again.entries == tree.entries


def test_a_file_that_is_swapped_while_it_is_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing runs any more when the worker packs; a FIFO in a file's place is an error all the same."""
    (tmp_path / "secret").write_text("of the host")
    (tmp_path / "tree").mkdir()
    file, real = tmp_path / "tree" / "file", os.open

    def swapping(put: Callable[[], object]) -> Callable[..., int]:
        def swap(path: str, flags: int, *more: int, dir_fd: int | None = None) -> int:
            if path == "file":
                file.unlink()
                put()
            return real(path, flags, *more, dir_fd=dir_fd)

        return swap

    puts = (
        lambda: os.mkfifo(file),
        lambda: file.symlink_to(tmp_path / "secret"),
        lambda: file.write_text("x"),
    )
    for put in puts:
        file.unlink(missing_ok=True)
        file.write_text("content")
        monkeypatch.setattr(os, "open", swapping(put))
        with pytest.raises(OSError, match=r"changed while|symbolic links|end of data"):
            folder.pack(str(tmp_path / "tree"), io.BytesIO())
        monkeypatch.setattr(os, "open", real)


@ROOT
@pytest.mark.parametrize("damage", ["changed", "shorter", "gone"])
def test_a_content_that_is_no_longer_what_it_was_is_not_laid_out(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is written fails beside what is laid out: a tree without its end must not pass for whole."""
    kept, content = tmp_path / "kept", b"x" * 100_000
    kept.write_bytes(content)
    contents = ContentStore(tmp_path)
    contents.adopt(kept, {hashlib.sha256(content).hexdigest(): (0, len(content))})
    tree = Tree(contents)
    tree.put("a", "first")
    tree.add(Entry("b", "file", 0o644, size=len(content), digest=hashlib.sha256(content).hexdigest()))
    tree.put("c", "last")
    if damage == "gone":
        kept.unlink()
    else:
        kept.write_bytes(content[:50] if damage == "shorter" else b"y" * len(content))
    (tmp_path / "tree").mkdir()
    with pytest.raises(FileNotFoundError if damage == "gone" else DamagedError):
        layer.extract_tree(tree, tmp_path / "tree")
    assert capsys.readouterr().err == ""
