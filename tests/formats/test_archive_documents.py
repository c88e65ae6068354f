"""An image archive is one image, whichever of its tables an engine reads, or it is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dindkit.formats import oci
from dindkit.formats.image_archive import open_archive
from tests.support.image_archives import Members, index_of, manifest_of, name_of, pack, refusal


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
