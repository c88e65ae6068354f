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
from dindkit.formats.contents import ContentStore
from dindkit.formats.entry import Entry
from dindkit.formats.tree import Tree, TreeError, read_tar

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


def names_of(tree: Tree) -> dict[str, str]:
    """Return what a reader of the tree finds at each path that is a file, or another name of one."""
    linked = {path: entry.link or path for path, entry in tree.entries.items() if entry.kind != "dir"}
    return {path: tree.text(file) for path, file in linked.items()}


@pytest.fixture
def twins(contents: ContentStore) -> Tree:
    """Return a tree in which m/b, m/c and m/a are one file."""
    tree = Tree(contents)
    tree.put("m/b", "one", 0o755)
    for name in ("m/c", "m/a"):
        tree.add(Entry(name, "hardlink", 0o755, link="m/b"))
    return tree


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda tree: tree.put("m/b", "two"), {"m/a": "one", "m/b": "two", "m/c": "one"}),
        (lambda tree: tree.put("m/c", "two"), {"m/a": "one", "m/b": "one", "m/c": "two"}),
        (lambda tree: tree.remove("m/b"), {"m/a": "one", "m/c": "one"}),
        (lambda tree: [tree.remove("m/b"), tree.remove("m/c")], {"m/a": "one"}),
        (lambda tree: [tree.put("m/b", "two"), tree.put("m/c", "three")], None),
        (lambda tree: tree.remove("m"), {}),
        (
            lambda tree: [tree.add(Entry("z", "hardlink", 0o755, link="m/c")), tree.remove("m")],
            {"z": "one"},
        ),
        (lambda tree: tree.edit("m/b", "two"), {"m/a": "two", "m/b": "two", "m/c": "two"}),
        (lambda tree: layer.apply(tree, [Entry("m/.wh.b", "file", 0o644)]), {"m/a": "one", "m/c": "one"}),
        (lambda tree: layer.apply(tree, [Entry("m/.wh..wh..opq", "file", 0o644)]), {}),
        (lambda tree: layer.apply(tree, [Entry("m/b", "dir", 0o755)]), {"m/a": "one", "m/c": "one"}),
        (lambda tree: layer.apply(tree, [Entry("m", "symlink", 0o755, link="/")]), {"m": ""}),
    ],
)
def test_other_names_of_a_file_stay_when_one_is_replaced_or_removed(
    tmp_path: Path, twins: Tree, change: Callable[[Tree], object], found: dict[str, str] | None
) -> None:
    """On a disk, and so in dpkg and engines, a hard link is a name of its own."""
    change(twins)
    found = {"m/a": "one", "m/b": "two", "m/c": "three"} if found is None else found
    assert names_of(twins) == found
    out = io.BytesIO()
    twins.write(out)
    out.seek(0)
    assert names_of(Tree(twins.contents, read_tar(out, twins.contents))) == found
    if os.geteuid() == 0:
        (tmp_path / "laid out").mkdir()
        layer.extract_tree(twins, tmp_path / "laid out")
        files = [path for path in (tmp_path / "laid out").rglob("*") if path.is_file()]
        laid = {str(path.relative_to(tmp_path / "laid out")): path.read_text() for path in files}
        assert laid == {path: text for path, text in found.items() if twins.entries[path].kind != "symlink"}


def test_a_hard_link_to_a_hard_link_is_one_to_the_file(twins: Tree) -> None:
    twins.add(Entry("z", "hardlink", 0o755, link="m/c"))
    assert twins.entries["z"].link == "m/b"
    assert twins.hard_links() == {"m/b": ["m/b", "m/c", "m/a", "z"]}


@pytest.mark.parametrize(
    "entries",
    [
        [Entry("x", "hardlink", 0o644, link="gone")],
        [Entry("x", "hardlink", 0o644, link="x")],
        [Entry("m/b", "hardlink", 0o644, link="m/b")],
        [Entry("m/b", "hardlink", 0o644, link="m/a")],
        [Entry("x", "hardlink", 0o644, link="m")],
        [Entry("m", "hardlink", 0o644, link="m/b")],
        [Entry("m/.wh.b", "file", 0o644), Entry("x", "hardlink", 0o644, link="m/b")],
    ],
)
def test_a_layer_links_to_files_that_are_there(twins: Tree, entries: list[Entry]) -> None:
    with pytest.raises(TreeError, match="it is a hard link to "):
        layer.apply(twins, entries)


def test_a_hard_link_with_another_mode_changes_its_file(twins: Tree) -> None:
    """Engines set owner and mode for each name, and so for the file: the last one counts."""
    layer.apply(twins, [Entry("x", "hardlink", 0o4755, 7, 8, link="m/a")])
    assert {(one.mode, one.uid, one.gid) for one in twins.entries.values() if one.kind != "dir"} == {
        (0o4755, 7, 8)
    }


def test_an_opaque_folder_keeps_what_its_own_layer_has_put(twins: Tree) -> None:
    digest, size = twins.contents.put(b"new")
    twins.put("m/old/file", "old")
    new = [Entry(f"m/{name}", "file", 0o644, size=size, digest=digest) for name in ("!", "n/x")]
    layer.apply(twins, [*new, Entry("m/.wh..wh..opq", "file", 0o644), Entry("m/z", "dir", 0o755)])
    assert sorted(twins.entries) == ["", "m", "m/!", "m/n", "m/n/x", "m/z"]


def test_what_costs_more_than_its_bytes_is_refused(
    contents: ContentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name of a kilobyte may need a gigabyte of folders; names of one file can be taken one by one."""
    tree = Tree(contents)
    with pytest.raises(TreeError, match="have more than 134217728 characters"):
        tree.add(Entry("/".join(["a"] * 20_000), "dir", 0o755))
    monkeypatch.setattr("dindkit.formats.tree.MAX_RENAMED", 1000)
    tree.put("file", "x")
    names = [f"link{number}" for number in range(100)]
    for name in names:
        tree.add(Entry(name, "hardlink", 0o644, link="file"))
    with pytest.raises(TreeError, match="lose them one by one"):
        layer.apply(tree, [Entry(f".wh.{name}", "file", 0o644) for name in ("file", *names)])
    tree = Tree(contents, [Entry(f"many/{number}", "dir", 0o755) for number in range(50_000)])
    layer.apply(tree, [Entry(f"many/.wh.{number}", "file", 0o644) for number in range(50_000)])  # in a second
    assert sorted(tree.entries) == ["", "many"]


def test_a_text_that_is_too_long_is_not_read(contents: ContentStore, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = Tree(contents)
    tree.put("etc/passwd", "x" * 11)
    assert tree.text("etc/passwd") == "x" * 11
    monkeypatch.setattr("dindkit.formats.tree.MAX_TEXT", 10)
    with pytest.raises(TreeError, match="it has 11 bytes, where a text is to be read"):
        tree.text("etc/passwd")
