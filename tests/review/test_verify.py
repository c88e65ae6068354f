"""`invoke verify --image`: it says equal of the image that the lock builds, and of no other."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest

from dindkit.formats import oci
from dindkit.formats.contents import ContentStore
from dindkit.formats.image_archive import ArchiveError, open_archive
from dindkit.image import build, build_options
from dindkit.image.build_options import BuildOptions
from dindkit.image.expected_ids import DifferentError
from dindkit.review import verify
from tests.review.conftest import Scene
from tests.support.layers import store


@pytest.fixture
def scene_is_built(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Let the scene's image be what the lock builds, and the lock have no ids."""
    monkeypatch.setattr(build, "build", lambda *_args, **_more: scene.built)
    for module in (build_options, verify):
        monkeypatch.setattr(module, "resolve", lambda *_args, **_more: scene.chain)
    return scene


def said_of(scene: Scene, archive: Path) -> str:
    out = io.StringIO()
    try:
        verify.run(scene.project, BuildOptions(), scene.progress, out, image=str(archive))
    except DifferentError as error:
        return f"{out.getvalue()}error: {error}"
    return out.getvalue()


def forge(scene: Scene, target: Path, path: str) -> Path:
    """Write the scene's image with one more file in its highest layer, and its configuration kept."""
    contents = ContentStore(target.parent)
    with open_archive(scene.built.archive) as archive:
        image = archive.image
        blobs = {}
        for one in image.layers:
            blobs[one.digest] = target.with_name(one.digest)
            blobs[one.digest].write_bytes(archive.blob(one).read())
        entries = list(archive.entries(image.layers[-1], contents))
    with target.with_name("blob").open("wb") as out:
        made = store([*entries, replace(entries[0], path=path)], contents, out)
    blobs[made.digest] = target.with_name("blob")
    described = [{"mediaType": made.media_type, "digest": made.digest, "size": made.size}]
    manifest = {**image.manifest, "layers": [*image.manifest["layers"][:-1], *described]}
    with target.open("wb") as file:
        oci.write(replace(image, manifest=manifest, layers=(*image.layers[:-1], made)), blobs, file)
    return target


def test_the_image_itself_is_equal(scene_is_built: Scene) -> None:
    archive = scene_is_built.built.archive
    assert said_of(scene_is_built, archive) == f"equal: {archive}\n"


def test_a_forged_layer_is_named_and_cannot_say_equal(scene_is_built: Scene, tmp_path: Path) -> None:
    forged = forge(scene_is_built, tmp_path / "x.tar", "etc/x\x1b[1A\nequal: dindkit/dind:trixie\udcff")
    first, *rest = said_of(scene_is_built, forged).splitlines()
    assert first == r"layer 2: /etc/x\x1b[1A\nequal: dindkit/dind:trixie\udcff: extra"
    assert rest == [f"error: {forged} differs from what its lock builds in 1 place."]


def test_a_cut_image_is_refused(scene_is_built: Scene, tmp_path: Path) -> None:
    whole = scene_is_built.built.archive.read_bytes()
    (tmp_path / "x.tar").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArchiveError, match=r"x\.tar (is not an image archive|lacks 'blobs)"):
        said_of(scene_is_built, tmp_path / "x.tar")
