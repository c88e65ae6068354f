"""The layers of an image archive are read to their ends, however they are compressed, within bounds."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from dindkit.formats import oci
from dindkit.formats.contents import ContentStore
from dindkit.formats.image_archive import ArchiveError, open_archive
from dindkit.formats.tree import Tree
from tests.support.image_archives import Members, pack, refusal, write_image

#: How a layer may be compressed in what `docker save` writes, where the name of its file tells nothing.
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.compress,
    "zstd, behind a frame for others": lambda tar: b"\x50\x2a\x4d\x18\4\0\0\0abcd" + zstandard.compress(tar),
    "zstd, two frames": lambda tar: zstandard.compress(tar[:100]) + zstandard.compress(tar[100:]),
}


def with_layer(good: Members, pack_layer: Callable[[bytes], bytes]) -> Members:
    """Return the files of `docker save`, whose layer `pack_layer` has made of the tar; without a RepoTags."""
    (entry,) = json.loads(good["manifest.json"])
    tar = zstandard.ZstdDecompressor().decompressobj().decompress(good[entry["Layers"][0]])
    saved = [{"Config": "c.json", "Layers": ["layer.tar"]}]
    files = {"c.json": good[entry["Config"]], "manifest.json": oci.document(saved)}
    return {**files, "layer.tar": pack_layer(tar)}


@pytest.mark.parametrize("name", COMPRESS)
def test_a_layer_is_read_however_it_is_compressed(tmp_path: Path, good: Members, name: str) -> None:
    with open_archive(pack(tmp_path / "x.tar", with_layer(good, COMPRESS[name]))) as archive:
        (layer,) = archive.image.layers
        assert archive.diff_id(layer) == layer.diff_id
        assert archive.image.tags == ()


@pytest.mark.parametrize("name", COMPRESS)
@pytest.mark.parametrize("missing", [1, 3, 10])
def test_a_layer_that_is_cut_short(tmp_path: Path, good: Members, name: str, missing: int) -> None:
    """Also where all of its content is there: engines refuse it, and it may not be called equal here."""
    files = with_layer(good, lambda tar: COMPRESS[name](tar)[:-missing])
    with open_archive(pack(tmp_path / "x.tar", files)) as archive:
        (layer,) = archive.image.layers
        with pytest.raises(ArchiveError, match=r"cannot be read: it is cut short\."):
            archive.diff_id(layer)


@pytest.mark.parametrize("behind", [b"\x28\xb5\x2f\xfd", zstandard.compress(b"more")[:9], b"\0", b"x" * 20])
def test_a_layer_with_half_a_frame_behind_it(tmp_path: Path, good: Members, behind: bytes) -> None:
    files = with_layer(good, lambda tar: zstandard.compress(tar) + behind)
    with open_archive(pack(tmp_path / "x.tar", files)) as archive:
        (layer,) = archive.image.layers
        with pytest.raises(ArchiveError, match=r"cannot be read: it (is cut short|cannot be decompressed)"):
            archive.diff_id(layer)


def test_a_layer_that_is_there_twice_is_kept_twice(tmp_path: Path, good: Members) -> None:
    """Docker before 25 saves the second one as a link to the first."""
    (entry,) = json.loads(good["manifest.json"])
    config = json.loads(good[entry["Config"]])
    config["rootfs"]["diff_ids"] *= 2
    saved = [{"Config": "c.json", "RepoTags": None, "Layers": ["1/layer.tar", "2/layer.tar"]}]
    files = {"c.json": oci.document(config), "manifest.json": oci.document(saved)}
    files["1/layer.tar"] = good[entry["Layers"][0]]
    with open_archive(pack(tmp_path / "x.tar", files, links={"2/layer.tar": "../1/layer.tar"})) as archive:
        first, second = archive.image.layers
        assert first == second
        assert archive.blob(second).read() == files["1/layer.tar"]
    path = pack(tmp_path / "y.tar", files, {"2/layer.tar": b"another"})
    assert f"y.tar holds two blobs for the layer '{first.diff_id}'." in refusal(path)


def test_an_archive_that_was_compressed_and_cut_is_no_archive(tmp_path: Path, good: Members) -> None:
    whole = pack(tmp_path / "x.tar", good).read_bytes()
    for compress in (gzip.compress, lzma.compress):
        (tmp_path / "x.tar").write_bytes(compress(whole)[:-100])
        assert "x.tar is not an image archive: " in refusal(tmp_path / "x.tar")


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst"])
def test_an_archive_is_compressed_as_docker_takes_it(
    tmp_path: Path, good: Members, contents: ContentStore, suffix: str
) -> None:
    whole = pack(tmp_path / "x.tar", good).read_bytes()
    half = len(whole) // 2
    packers: dict[str, Callable[[bytes], bytes]] = {
        ".gz": gzip.compress,
        ".bz2": bz2.compress,
        ".xz": lzma.compress,
        ".zst": zstandard.compress,
    }
    compress = packers[suffix]
    with open_archive(tmp_path / "x.tar") as archive:
        wanted = archive.tree(contents).entries
    for packed in (compress(whole), compress(whole[:half]) + compress(whole[half:])):
        (tmp_path / "y.tar").write_bytes(packed)
        with open_archive(tmp_path / "y.tar") as archive:
            assert archive.tree(contents).entries == wanted
        (tmp_path / "y.tar").write_bytes(packed[:-40])
        assert "y.tar is not an image archive: " in refusal(tmp_path / "y.tar")


def test_a_dictionary_that_memory_is_not_for(tmp_path: Path, good: Members) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1_400_000_000, "preset": 0}]
    whole = pack(tmp_path / "x.tar", good).read_bytes()
    (tmp_path / "x.tar").write_bytes(lzma.compress(whole, filters=filters))
    assert (
        "x.tar is not an image archive: it cannot be decompressed (Memory usage limit exceeded)."
        in refusal(tmp_path / "x.tar")
    )


@pytest.mark.parametrize("place", ["in the archive", "in a layer", "in two layers"])
def test_an_archive_unpacks_to_no_more_than_disks_are_for(
    tmp_path: Path, contents: ContentStore, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Some hundred bytes of zstd are a gigabyte of zeros, which would be written to the disk."""
    trees = [Tree(contents)]
    trees[0].put("big", bytes(3_000_000))
    if place == "in two layers":
        trees.append(Tree(contents, trees[0].entries.values()))
        trees[1].put("bigger", bytes(3_000_001))
    path = write_image(tmp_path, contents, *trees)
    if place == "in the archive":
        path.write_bytes(gzip.compress(path.read_bytes() + bytes(6_000_000)))
    with open_archive(path) as archive:
        archive.hold_layers()
    monkeypatch.setattr("dindkit.formats.image_archive.MAX_RATIO", 0)
    monkeypatch.setattr(
        "dindkit.formats.image_archive.MAX_UNPACKED", 5_000_000 if "two" in place else 2_000_000
    )

    def read() -> None:
        with open_archive(path) as archive:
            for _ in range(2):  # one layer that is read twice counts once
                archive.diff_id(archive.image.layers[0])
            archive.hold_layers()

    with pytest.raises(ArchiveError, match="unpacks to more than"):
        read()


def test_more_layers_than_a_mount_takes(
    tmp_path: Path, contents: ContentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_image(tmp_path, contents, Tree(contents), Tree(contents))
    monkeypatch.setattr("dindkit.formats.archive_documents.MAX_LAYERS", 1)
    assert "an image of more than 1 layers" in refusal(path)
