"""An EROFS that we write is what erofs-utils and the kernel read, whoever we are."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
from pathlib import Path

import pytest

from dindkit.embedded.tree import matches_tree
from dindkit.formats import erofs
from dindkit.formats.contents import ContentStore
from dindkit.formats.entry import Entry
from dindkit.formats.erofs import ErofsError
from dindkit.formats.tree import Tree
from dindkit.process import require

#: cap_net_raw=ep, as in the extended attribute of a file: capabilities(7).
NET_RAW = bytes.fromhex("0100000200200000000000000000000000000000")


@pytest.fixture
def tree(contents: ContentStore) -> Tree:
    tree = Tree(contents)
    tree.put("empty", "")
    tree.put("one", "x", mtime=1_700_000_000)
    tree.put("same", "x", mode=0o4755)
    tree.put("block", "b" * 4096)
    tree.put("large", os.urandom(5_000_000))
    tree.add(Entry("etc", "dir", 0o1777, 100_000, 200_000, 1_600_000_000))
    tree.put("etc/passwd", "root:x:0:0::/:/bin/sh\n")
    tree.add(Entry("etc/shadow", "hardlink", 0o644, link="etc/passwd"))
    tree.add(Entry("bin", "symlink", 0o777, link="usr/bin"))
    tree.add(Entry("long", "symlink", 0o777, link="/" + "l" * 3000))
    tree.add(Entry("null", "char", 0o666, device=(1, 3)))
    tree.add(Entry("disk", "block", 0o660, 0, 6, device=(259, 70_000)))
    tree.add(Entry("pipe", "fifo", 0o600))
    digest, size = contents.put(b"ping")
    tree.add(Entry("ping", "file", 0o755, size=size, digest=digest, capability=NET_RAW))
    # As many names as several blocks hold, with bytes before and after `.` and of no encoding.
    for name in ("!first", "+", "-x", ".hidden", "\udcff", "ü" * 127, "n" * 255):
        tree.put(f"many/{name}", name.encode("utf-8", "surrogateescape"))
    for number in range(700):
        tree.put(f"many/{number:040}", str(number))
    return tree


def written(tree: Tree, folder: Path) -> Path:
    image = folder / "image.erofs"
    with image.open("wb") as file:
        assert erofs.write(tree, file) == file.tell()
    return image


def test_erofs_utils_unpack_it(tree: Tree, tmp_path: Path) -> None:
    out = tmp_path / "out"
    check: list[str | Path] = [require("fsck.erofs"), f"--extract={out}", written(tree, tmp_path)]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    files = {path: entry for path, entry in tree.entries.items() if entry.kind == "file"}
    assert {os.fsencode(path) for path in out.rglob("*")} == {
        os.fsencode(out / path) for path in tree.entries if path
    }
    for path, entry in files.items():
        assert hashlib.sha256((out / path).read_bytes()).hexdigest() == entry.digest


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
@pytest.mark.skipif(
    "\terofs\n" not in Path("/proc/filesystems").read_text(), reason="no EROFS in this kernel"
)
def test_the_kernel_reads_the_tree(tree: Tree, tmp_path: Path) -> None:
    image, place = written(tree, tmp_path), tmp_path / "mounted"
    place.mkdir()
    subprocess.run(["mount", "-t", "erofs", "-o", "loop,ro", image, place], check=True)
    try:
        assert matches_tree(tree, place)
        assert os.getxattr(place / "ping", "security.capability") == NET_RAW
        found = (place / "etc").stat()
        assert (found.st_uid, found.st_gid, found.st_mtime) == (100_000, 200_000, 1_600_000_000)
        assert (place / "one").stat().st_mtime == 1_700_000_000
        assert [(place / name).stat().st_nlink for name in ("etc/passwd", "one", "many")] == [2, 1, 2]
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_tree_has_one_image(tree: Tree, tmp_path: Path) -> None:
    images = [io.BytesIO(), io.BytesIO()]
    for image in images:
        erofs.write(tree, image)
    assert images[0].getvalue() == images[1].getvalue()


def test_files_of_one_content_share_it(contents: ContentStore) -> None:
    sizes = []
    for count in (1, 50):
        tree = Tree(contents)
        for number in range(count):
            tree.put(f"file{number}", "z" * 100_000)
        sizes.append(erofs.write(tree, io.BytesIO()))
    assert sizes[1] - sizes[0] < 10_000


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (Entry("n" * 256, "fifo", 0o644), "longer than 255 bytes"),
        (Entry("link", "hardlink", 0o644, link="gone"), "hard link to 'gone', which is no file"),
    ],
)
def test_what_it_cannot_hold_is_refused_before_anything_is_written(
    contents: ContentStore, entry: Entry, why: str
) -> None:
    out = io.BytesIO()
    with pytest.raises(ErofsError, match=why):
        erofs.write(Tree(contents, [entry]), out)
    assert out.tell() == 0
