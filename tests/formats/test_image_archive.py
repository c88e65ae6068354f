"""An image archive is one image, whichever of its tables an engine reads, or it is refused."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import tarfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import zstandard

from dindkit.formats import layer, oci
from dindkit.formats.contents import ContentStore
from dindkit.formats.image_archive import ArchiveError, open_archive
from dindkit.formats.tree import Tree
from dindkit.image import image_config
from dindkit.image.recipe import Config
from tests.support.layers import store

Members = dict[str, bytes]


def write_image(folder: Path, contents: ContentStore, *trees: Tree) -> Path:
    """Write an image whose layers turn each of `trees` into the next; return its archive's path."""
    folder.mkdir(parents=True, exist_ok=True)
    parts, blobs, below = [], {}, None
    for index, tree in enumerate(trees):
        with (folder / f"blob{index}").open("wb") as out:
            stored = store(layer.difference(tree, below), contents, out)
        blobs[stored.digest] = folder / f"blob{index}"
        parts.append(image_config.Part(stored, "made by a test"))
        below = tree
    image = image_config.describe(parts, Config(cmd=("sh",)), {}, 1_700_000_000, "amd64", "dindkit/x:trixie")
    with (folder / "image.tar").open("wb") as out:
        oci.write(image, blobs, out)
    return folder / "image.tar"


def members(path: Path) -> Members:
    """Return the files in an archive by name."""
    found = {}
    with tarfile.open(path) as archive:
        for member in archive:
            file = archive.extractfile(member)
            if file is not None:
                found[member.name] = file.read()
    return found


def pack(path: Path, *files: Mapping[str, bytes], links: Mapping[str, str] | None = None) -> Path:
    """Write a tar of `files`, in their order, and of symbolic `links`."""
    with tarfile.open(path, "w") as out:
        for name, content in (item for some in files for item in some.items()):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            out.addfile(member, io.BytesIO(content))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            out.addfile(member)
    return path


def name_of(content: bytes) -> str:
    return f"blobs/{oci.digest(content).replace(':', '/')}"


def index_of(manifests: Iterable[bytes], **more: Any) -> bytes:
    """Return an index of manifests, or of indexes."""
    entries = [
        {
            "mediaType": oci.INDEX if b'"manifests":' in one else oci.MANIFEST,
            "digest": oci.digest(one),
            "size": len(one),
            **more,
        }
        for one in manifests
    ]
    return oci.document({"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": entries})


def manifest_of(files: Members) -> bytes:
    (entry,) = json.loads(files["index.json"])["manifests"]
    return files[f"blobs/{entry['digest'].replace(':', '/')}"]


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


def refusal(path: Path) -> str:
    with pytest.raises(ArchiveError) as caught, open_archive(path):
        pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_two_tables_that_name_different_images_are_refused(
    tmp_path: Path, good: Members, evil: Members
) -> None:
    for name in ("manifest.json", "index.json"):
        path = pack(tmp_path / "x.tar", {**evil, **good, name: evil[name]})
        assert "x.tar holds two images: manifest.json names one, index.json another." in refusal(path)


def test_an_image_with_another_layer_is_another_image(tmp_path: Path, good: Members, evil: Members) -> None:
    manifest = json.loads(manifest_of(good)) | {"layers": json.loads(manifest_of(evil))["layers"]}
    text = oci.document(manifest)
    path = pack(tmp_path / "x.tar", {**evil, **good, name_of(text): text, "index.json": index_of([text])})
    assert "x.tar holds two images" in refusal(path)


def test_a_second_image_is_refused(tmp_path: Path, good: Members, evil: Members) -> None:
    saved = [*json.loads(good["manifest.json"]), *json.loads(evil["manifest.json"])]
    files = {**evil, **good, "manifest.json": oci.document(saved)}
    del files["index.json"]
    assert "it holds 2 images" in refusal(pack(tmp_path / "saved.tar", files))
    files = {**evil, **good, "index.json": index_of([manifest_of(good), manifest_of(evil)])}
    del files["manifest.json"]
    assert "it holds 2 images" in refusal(pack(tmp_path / "layout.tar", files))


@pytest.mark.parametrize("name", ["./index.json", "/index.json", "blobs/../index.json", "index.json"])
def test_an_index_is_found_as_engines_find_it(
    tmp_path: Path, good: Members, evil: Members, name: str
) -> None:
    index, hidden = good.pop("index.json"), {name: evil.pop("index.json")}
    assert "x.tar holds two images" in refusal(pack(tmp_path / "x.tar", {**evil, **good, **hidden}))
    path = pack(tmp_path / "y.tar", {**evil, **good}, {"index.json": index}, hidden)
    assert "y.tar holds 'index.json' twice." in refusal(path)


def test_what_lies_below_a_link_is_refused(tmp_path: Path, good: Members) -> None:
    path = pack(tmp_path / "x.tar", good, {"here/index.json": b"{}"}, links={"here": "."})
    assert "x.tar holds files below 'here', which is no folder." in refusal(path)


def test_names_in_json_count_as_for_engines(tmp_path: Path, good: Members, evil: Members) -> None:
    both = {**evil, **good}
    (mine,), (theirs,) = json.loads(good["manifest.json"]), json.loads(evil["manifest.json"])
    doubled = oci.document([{**mine, "layers": theirs["Layers"]}])
    assert "twice in one object" in refusal(pack(tmp_path / "x.tar", {**both, "manifest.json": doubled}))
    other = oci.document({name.upper(): value for name, value in json.loads(manifest_of(evil)).items()})
    path = pack(tmp_path / "y.tar", {**both, name_of(other): other, "index.json": index_of([other])})
    assert "y.tar holds two images" in refusal(path)


def test_a_document_is_the_one_that_it_is_named_after(tmp_path: Path, good: Members) -> None:
    (entry,) = json.loads(good["manifest.json"])
    for place in (entry["Config"], name_of(manifest_of(good))):
        path = pack(tmp_path / "x.tar", {**good, place: good[place].replace(b":", b": ", 1)})
        assert f"x.tar is damaged or forged: '{place}' has the digest sha256:" in refusal(path)


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


def test_an_index_over_two_architectures_is_what_an_engine_saved(
    tmp_path: Path, good: Members, evil: Members
) -> None:
    """Containerd's image store keeps a pulled index, without the images of other architectures."""
    own, other = (
        json.loads(index_of([manifest_of(files)], platform={"architecture": architecture, "os": "linux"}))
        for files, architecture in ((good, "amd64"), (evil, "arm64"))
    )
    both = oci.document({**own, "manifests": [*other["manifests"], *own["manifests"]]})
    files = {**good, name_of(both): both, "index.json": index_of([both])}
    with open_archive(pack(tmp_path / "x.tar", files)) as archive:
        assert {oci.digest(both), archive.image.image_id} < archive.ids
        assert archive.image.manifest == json.loads(manifest_of(good))
    lying = both.replace(b"arm64", b"amd64")
    files = {**good, name_of(lying): lying, "index.json": index_of([lying])}
    assert f"lacks '{name_of(manifest_of(evil))}'" in refusal(pack(tmp_path / "x.tar", files))
    assert "x.tar holds two images" in refusal(pack(tmp_path / "x.tar", {**evil, **files}))
    outside = index_of([manifest_of(evil)], platform={"architecture": "arm64", "os": "linux"})
    path = pack(tmp_path / "x.tar", {**evil, **good, "index.json": outside})
    assert "x.tar holds two images" in refusal(path)


def test_an_index_without_images_says_nothing(tmp_path: Path, good: Members) -> None:
    """Docker 25 writes one for an image without a tag: https://github.com/moby/moby/issues/47210."""
    empty = oci.document({"schemaVersion": 2, "manifests": None})
    with open_archive(pack(tmp_path / "x.tar", {**good, "index.json": empty})) as archive:
        assert archive.image.tags == ("dindkit/x:trixie",)


@pytest.mark.parametrize(
    "content", [b"", b"[", b"[" * 100_000, b"[1]", b'[{"Config":1,"Layers":[2]}]', b"\xff"]
)
@pytest.mark.parametrize("name", ["manifest.json", "index.json"])
def test_documents_of_another_shape_are_no_archive(
    tmp_path: Path, good: Members, name: str, content: bytes
) -> None:
    said = refusal(pack(tmp_path / "x.tar", {**good, name: content}))
    assert "x.tar is not an image archive: " in said


@pytest.mark.parametrize(
    ("key", "value"), [("mediaType", None), ("mediaType", 1), ("size", "1"), ("size", None)]
)
def test_a_layer_that_is_described_in_another_way(
    tmp_path: Path, good: Members, key: str, value: object
) -> None:
    index = json.loads(good["index.json"])
    manifest = json.loads(good[oci.blob_path(index["manifests"][0]["digest"])])
    manifest["layers"][0][key] = value
    text = oci.document(manifest)
    index["manifests"][0] = {**index["manifests"][0], "digest": oci.digest(text), "size": len(text)}
    changed = {**good, "index.json": oci.document(index), oci.blob_path(oci.digest(text)): text}
    assert "x.tar is not an image archive: " in refusal(pack(tmp_path / "x.tar", changed))


def test_an_archive_that_was_compressed_and_cut_is_no_archive(tmp_path: Path, good: Members) -> None:
    whole = pack(tmp_path / "x.tar", good).read_bytes()
    for compress in (gzip.compress, lzma.compress):
        (tmp_path / "x.tar").write_bytes(compress(whole)[:-100])
        assert "x.tar is not an image archive: " in refusal(tmp_path / "x.tar")


def described(good: Members, change: Callable[[dict[str, Any], dict[str, Any]], object]) -> Members:
    """Return an image without manifest.json, with its index's entry and its manifest changed."""
    index = json.loads(good["index.json"])
    (entry,) = index["manifests"]
    manifest = json.loads(good[oci.blob_path(entry["digest"])])
    change(entry, manifest)
    text = oci.document(manifest)
    entry["digest"] = oci.digest(text)
    entry["size"] = entry["size"] if entry["size"] in (7, -1) else len(text)
    rest = {name: content for name, content in good.items() if name != "manifest.json"}
    return {**rest, "index.json": oci.document(index), oci.blob_path(oci.digest(text)): text}


@pytest.mark.parametrize(
    "change",
    [
        lambda _entry, manifest: manifest["layers"][0].update(size=1),
        lambda _entry, manifest: manifest["layers"][0].update(size=-5),
        lambda _entry, manifest: manifest["layers"][0].update(size=1 << 62),
        lambda _entry, manifest: manifest["config"].update(size=1),
        lambda entry, _manifest: entry.update(size=7),
        lambda entry, _manifest: entry.update(size=-1),
    ],
)
def test_a_descriptor_that_lies_about_a_size(
    tmp_path: Path, good: Members, change: Callable[[dict[str, Any], dict[str, Any]], object]
) -> None:
    """Engines refuse it, and what is called equal must be what they run."""
    with open_archive(pack(tmp_path / "x.tar", described(good, lambda *_all: None))):
        pass
    assert "bytes, and is described with" in refusal(pack(tmp_path / "x.tar", described(good, change)))


DOCKERS = "application/vnd.docker.distribution.manifest"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda entry, _: entry.update(mediaType=oci.INDEX), "of the kind manifest, and is called 'applica"),
        (lambda entry, _: entry.update(mediaType=f"{DOCKERS}.list.v2+json"), "of the kind manifest"),
        (lambda entry, _: entry.update(mediaType=oci.CONFIG), "of the kind manifest, and is called"),
        (lambda entry, _: entry.update(mediaType=["x"]), "its documents are not what they should be"),
        (lambda _, manifest: manifest.update(mediaType=oci.INDEX), "of the kind manifest, and is called"),
        (lambda _, manifest: manifest.update(MEDIATYPE=oci.INDEX), "a name is twice in one object"),
        (lambda _, manifest: manifest.update(manifests=[]), "an index and a manifest at once"),
        (lambda _, manifest: manifest.update(Manifests=None), "an index and a manifest at once"),
    ],
)
def test_a_document_that_tools_take_for_different_things(
    tmp_path: Path, good: Members, change: Callable[[dict[str, Any], dict[str, Any]], object], said: str
) -> None:
    assert said in refusal(pack(tmp_path / "x.tar", described(good, change)))


@pytest.mark.parametrize(
    ("manifest", "index"),
    [
        (f"{DOCKERS}.v2+json", f"{DOCKERS}.list.v2+json"),
        (oci.MANIFEST, None),
        (None, oci.INDEX),
        (None, None),
    ],
)
def test_a_document_may_be_called_what_it_is(
    tmp_path: Path, good: Members, manifest: str | None, index: str | None
) -> None:
    def change(entry: dict[str, Any], document: dict[str, Any]) -> None:
        for one in (entry, document):
            one.update(mediaType=manifest)

    files = described(good, change)
    files["index.json"] = oci.document({**json.loads(files["index.json"]), "mediaType": index})
    with open_archive(pack(tmp_path / "x.tar", files)) as archive:
        assert len(archive.image.layers) == 1


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
