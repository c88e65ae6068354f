"""Tar, layer, whiteout and archive: bytes that depend on nothing, and that other tools read."""

from __future__ import annotations

import hashlib
import io
import json
import random
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dindkit.formats import compare, layer, oci
from dindkit.formats.contents import EMPTY, ContentStore
from dindkit.formats.entry import Entry
from dindkit.formats.image_archive import ArchiveError, open_archive
from dindkit.formats.tree import Tree, read_tar, write
from dindkit.image import image_config
from dindkit.image.build import Built
from dindkit.image.recipe import Config
from tests.support.layers import store
from tests.support.local_project import tar_of


def put(tree: Tree, path: str, content: str, **changes: Any) -> None:
    tree.put(path, content)
    tree.entries[path] = replace(tree.entries[path], **changes)


@pytest.fixture
def tree(contents: ContentStore) -> Tree:
    made = Tree(contents)
    put(made, "a/file", "content", mode=0o4755, uid=1000, gid=5, mtime=1_700_000_000)
    made.add(Entry("a/link", "symlink", 0o777, link="../b"))
    made.add(Entry("a/twin", "hardlink", 0o4755, 1000, 5, 1_700_000_000, link="a/file"))
    put(made, "deep/" + "d" * 90 + "/" + "f" * 120, "long name")
    put(made, "deep/" + "/".join(["e" * 60] * 6), "long path")
    made.add(Entry("deep/far", "symlink", 0o777, link="x/" * 80))
    put(made, "ünïcode/Főtanúsítvány", "not ASCII")
    put(made, "raw\udcff", "not UTF-8")
    put(made, "big/ids", "x", uid=3_000_000_000, gid=2_500_000)
    put(made, "cap", "x")
    made.entries["cap"] = replace(made.entries["cap"], capability=bytes(range(0, 200, 10)))
    made.add(Entry("pipe", "fifo", 0o600))
    made.add(Entry("null", "char", 0o666, device=(1, 3)))
    return made


def test_what_is_written_is_read_again(tree: Tree, contents: ContentStore) -> None:
    again = Tree(contents, read_tar(io.BytesIO(tar_of(tree)), contents))
    assert again.entries == tree.entries


def test_gnu_tar_agrees(tree: Tree, tmp_path: Path) -> None:
    for path in ("raw\udcff", "cap"):
        tree.remove(path)
    (tmp_path / "tree.tar").write_bytes(tar_of(tree))
    listed = subprocess.run(
        ["tar", "--numeric-owner", "--quoting-style=literal", "-tvf", tmp_path / "tree.tar"],
        capture_output=True,
        check=True,
        env={"LC_ALL": "C.UTF-8", "TZ": "UTC", "PATH": "/usr/bin:/bin"},
    )
    assert listed.stderr == b""
    lines = listed.stdout.decode().splitlines()
    assert len(lines) == len(tree.entries)
    assert any(
        line.startswith("-rwsr-xr-x 1000/5") and line.endswith("2023-11-14 22:13 a/file") for line in lines
    )
    assert any(line.endswith("a/twin link to a/file") for line in lines)
    assert any("3000000000/2500000" in line for line in lines)
    assert any(line.endswith("ünïcode/Főtanúsítvány") for line in lines)


def test_order_is_by_bytes_whatever_the_locale(contents: ContentStore) -> None:
    made = Tree(contents)
    for path in ("a-b", "a/b", "B", "é", "a.b", "_"):
        made.put(path, path)
    with tarfile.open(fileobj=io.BytesIO(tar_of(made))) as archive:
        names = [name.encode() for name in archive.getnames()]
    assert names == sorted(names)
    assert names.index(b"a") < names.index(b"a/b")


def changed(tree: Tree, contents: ContentStore) -> Tree:
    after = Tree(contents, tree.entries.values())
    put(after, "a/new", "new")
    put(after, "cap", "other")
    after.remove("deep")
    after.remove("pipe")
    after.add(Entry("ünïcode", "dir", 0o700))
    return after


def test_a_layer_turns_the_parent_into_the_tree(tree: Tree, contents: ContentStore) -> None:
    after = changed(tree, contents)
    entries = layer.difference(after, tree)
    out = io.BytesIO()
    write(out, entries, contents)
    out.seek(0)
    result = Tree(contents, tree.entries.values())
    layer.apply(result, read_tar(out, contents))
    assert result.entries == after.entries
    paths = [entry.path for entry in entries]
    assert {".wh.deep", ".wh.pipe"} <= set(paths)
    assert "a/file" not in paths  # nothing of it has changed
    assert "a" in paths  # with its own mode, not one made up by whoever unpacks


def test_a_changed_hard_link_brings_all_its_names(tree: Tree, contents: ContentStore) -> None:
    after = Tree(contents, tree.entries.values())
    after.add(replace(tree.entries["a/twin"], path="z/third"))
    paths = [entry.path for entry in layer.difference(after, tree) if entry.kind != "dir"]
    assert paths == ["a/file", "a/twin", "z/third"]


def test_a_time_alone_is_not_carried(tree: Tree, contents: ContentStore) -> None:
    after = Tree(contents, (replace(entry, mtime=entry.mtime + 5) for entry in tree.entries.values()))
    assert layer.difference(after, tree) == []


def test_opaque_folders_of_other_builders_are_read(tree: Tree, contents: ContentStore) -> None:
    layer.apply(tree, [Entry("deep", "dir", 0o755), Entry("deep/.wh..wh..opq", "file", 0o644, digest=EMPTY)])
    assert tree.below("deep") == []


def test_cores_do_not_change_a_byte(contents: ContentStore, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Tree(contents)
    for number in range(60):
        made.put(f"file{number}", random.Random(number).randbytes(400_000) * 2)
    blobs = []
    for threads in (1, 2, 4):
        monkeypatch.setattr(layer, "THREADS", threads)
        out = io.BytesIO()
        stored = store(layer.difference(made, None), contents, out)
        assert stored.digest == "sha256:" + hashlib.sha256(out.getvalue()).hexdigest()
        assert stored.size == len(out.getvalue())
        blobs.append((stored.diff_id, stored.digest))
    assert len(set(blobs)) == 1


def archive(tmp_path: Path, tree: Tree, contents: ContentStore) -> tuple[Path, oci.Image]:
    with (tmp_path / "blob").open("wb") as out:
        stored = store(layer.difference(tree, None), contents, out)
    parts = [image_config.Part(stored, "made by a test")]
    image = image_config.describe(
        parts, Config(cmd=("sh",)), {"a": "b"}, 1_700_000_000, "amd64", "dindkit/x:trixie"
    )
    with (tmp_path / "image.tar").open("wb") as out:
        oci.write(image, {stored.digest: tmp_path / "blob"}, out)
    return tmp_path / "image.tar", image


def test_an_archive_is_read_again(tmp_path: Path, tree: Tree, contents: ContentStore) -> None:
    path, image = archive(tmp_path, tree, contents)
    with open_archive(path) as found:
        assert found.image == image
        assert found.tree(contents).entries == tree.entries


def test_what_docker_save_used_to_write_is_read(tmp_path: Path, tree: Tree, contents: ContentStore) -> None:
    data = tar_of(tree)
    diff_id = f"sha256:{hashlib.sha256(data).hexdigest()}"
    config = json.dumps({"os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff_id]}}).encode()
    manifest = json.dumps([{"Config": "c.json", "RepoTags": ["x:y"], "Layers": ["1/layer.tar"]}]).encode()
    with tarfile.open(tmp_path / "saved.tar", "w") as out:
        for name, content in (("c.json", config), ("1/layer.tar", data), ("manifest.json", manifest)):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            out.addfile(info, io.BytesIO(content))
    with open_archive(tmp_path / "saved.tar") as found:
        assert found.image.tags == ("x:y",)
        assert found.image.layers[0].diff_id == diff_id
        assert found.tree(contents).entries == tree.entries


@pytest.mark.parametrize("content", [b"", b"no tar", b"\0" * 10240])
def test_what_is_no_archive_is_said_to_be_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.tar").write_bytes(content)
    with (
        pytest.raises(ArchiveError, match=r"x\.tar is not an image archive"),
        open_archive(tmp_path / "x.tar"),
    ):
        pass


@pytest.mark.parametrize("transport", ["oci-archive", "docker-archive"])
def test_skopeo_reads_and_copies_it(tmp_path: Path, base: Built, transport: str) -> None:
    source = f"{transport}:{base.archive}"
    said = subprocess.run(["skopeo", "inspect", "--config", source], capture_output=True, check=True)
    with open_archive(base.archive) as found:
        assert json.loads(said.stdout)["rootfs"]["diff_ids"] == list(found.image.config["rootfs"]["diff_ids"])
    subprocess.run(
        ["skopeo", "--insecure-policy", "copy", source, f"dir:{tmp_path / 'copy'}"],
        capture_output=True,
        check=True,
    )


def test_extract_lays_the_tree_out_on_disk(tmp_path: Path, base: Built) -> None:
    (tmp_path / "root").mkdir()
    with open_archive(base.archive) as archive:
        layer.extract_tree(archive.tree(ContentStore(tmp_path)), tmp_path / "root")
    shell = (tmp_path / "root/usr/bin/dash").stat()
    assert (shell.st_uid, shell.st_mode & 0o7777) == (0, 0o755)
    assert str((tmp_path / "root/bin").readlink()) == "usr/bin"
    assert (tmp_path / "root/tmp").stat().st_mode & 0o7777 == 0o1777
    checker = (tmp_path / "root/usr/sbin/unix_chkpwd").stat()
    assert (checker.st_gid, checker.st_mode & 0o7777) == (42, 0o2755)


def test_compare_names_every_path_and_how(tree: Tree, contents: ContentStore) -> None:
    after = changed(tree, contents)
    after.entries["a/file"] = replace(after.entries["a/file"], mode=0o755, uid=0)
    found = {one.path: one.how for one in compare.entries(tree.entries.values(), after.entries.values())}
    assert found["a/new"] == "extra"
    assert found["pipe"] == "missing"
    assert found["a/file"] == "mode, owner"
    assert found["cap"] == "content, capability"
    assert "null" not in found


def test_compare_of_archives_knows_the_layer(tmp_path: Path, tree: Tree, contents: ContentStore) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one, _ = archive(tmp_path / "one", tree, contents)
    tree.edit("a/file", "changed")
    two, _ = archive(tmp_path / "two", tree, contents)
    assert compare.archives(one, one, tmp_path) == []
    differences = compare.archives(one, two, tmp_path)
    assert [(one.layer, one.path, one.how) for one in differences] == [(0, "a/file", "content")]


def test_what_ends_compression_is_what_is_raised() -> None:
    """An interrupt is no damage, though zstd did not get what it was told."""

    def interrupted() -> Iterator[bytes]:
        yield b"a" * 10_000
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        layer.compress(interrupted(), 20_000, io.BytesIO())
