"""What lies in the state folder is not believed: each way of poisoning it is seen where the image is used."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from dindkit.formats import oci
from dindkit.formats.image_archive import ArchiveError, open_archive
from dindkit.formats.tree import Spool
from dindkit.image import build as builds
from dindkit.image import expected_ids, rebuild, sbom, seal
from dindkit.image.build import Built, build
from dindkit.image.built import opened
from dindkit.image.expected_ids import DifferentError
from dindkit.image.order import Order
from dindkit.packages import lock as locks
from dindkit.progress import Progress
from dindkit.project import Project
from tests.image.test_rebuild import tampered
from tests.support.world import World

ORDER = Order(image="app")


@pytest.fixture
def sealed(world: World) -> Built:
    """Give the world's image, over a lock that names its ids."""
    seal.seal(world.project, ORDER, Progress(world.said))
    built = world.build()
    world.said.truncate(0)
    world.said.seek(0)
    return built


@pytest.fixture
def kept(sealed: Built) -> Iterator[Built]:
    """Give it, to be poisoned; the files are put back afterwards."""
    folder = sealed.archive.parent
    files = {path: path.read_bytes() for path in folder.iterdir() if path.name != "lock"}
    yield sealed
    for path, content in files.items():
        path.write_bytes(content)


def put(built: Built, archive: Path) -> None:
    """Put `archive` in the place of the built one, with a built.json that agrees with it."""
    shutil.copyfile(archive, built.archive)
    with open_archive(archive) as found:
        layers = [asdict(one) for one in found.image.layers]
        kept = {"image_id": found.image_id, "layers": layers, "bytes": built.archive.stat().st_size}
    built.archive.with_name("built.json").write_text(json.dumps(kept))


def spoil_layer(built: Built, index: int) -> None:
    """Change one byte amid a layer, and nothing that says what the layer is."""
    name = f"blobs/{built.layers[index].digest.replace(':', '/')}"
    with tarfile.open(built.archive) as archive:
        member = archive.getmember(name)
    with built.archive.open("r+b") as file:
        file.seek(member.offset_data + member.size // 2)
        byte = file.read(1)[0]
        file.seek(-1, io.SEEK_CUR)
        file.write(bytes([byte ^ 1]))


def test_what_was_built_and_sealed_is_taken_without_a_word(sealed: Built, world: World) -> None:
    assert world.build(frozen=True) == sealed
    assert world.said.getvalue() == ""


def test_a_whole_forgery_is_another_image_than_the_lock_promises(
    kept: Built, world: World, tmp_path: Path
) -> None:
    evil = tampered(kept, tmp_path)
    put(kept, evil)
    with pytest.raises(DifferentError, match=r"dindkit/app:trixie is not the image.*layer 1 is.*lock --seal"):
        world.build(frozen=True)
    assert world.build().image_id != kept.image_id
    assert "warning: dindkit/app:trixie is not the image that its lock promises" in world.said.getvalue()
    found = rebuild.against(world.project, ORDER, evil, Progress(world.said))
    assert [(one.layer, one.path, one.how) for one in found] == [
        (1, "usr/bin/greet", "content"),
        (1, "var/lib/dpkg/info/greeter.list", "mode"),
    ]


def test_another_configuration_is_built_anew(kept: Built, world: World, tmp_path: Path) -> None:
    """Even where the lock has no ids: the configuration follows from recipe, lock and layers."""
    with open_archive(kept.archive) as archive:
        image = archive.image
        blobs = {}
        for one in image.layers:
            blobs[one.digest] = tmp_path / one.digest
            blobs[one.digest].write_bytes(archive.blob(one).read())
    config = {**image.config, "config": {**image.config["config"], "Cmd": ["evil"]}}
    text = oci.document(config)
    described = {"mediaType": oci.CONFIG, "digest": oci.digest(text), "size": len(text)}
    with (tmp_path / "evil.tar").open("wb") as out:
        oci.write(replace(image, config=config, manifest={**image.manifest, "config": described}), blobs, out)
    put(kept, tmp_path / "evil.tar")
    assert world.build() == kept
    assert (
        "is damaged or forged: it is not the image that was built. It is built anew." in world.said.getvalue()
    )
    with open_archive(kept.archive) as archive:
        assert archive.image_id == kept.image_id


def test_built_json_that_names_another_id_is_not_believed(kept: Built, world: World) -> None:
    path = kept.archive.with_name("built.json")
    path.write_text(path.read_text().replace(kept.image_id, "sha256:" + "0" * 64))
    assert world.build().image_id == kept.image_id
    assert "It is built anew." in world.said.getvalue()


@pytest.mark.parametrize("text", ["", "[" * 100_000, "[]", '{"bytes": 1}', '{"layers": [{}]}', '"x"'])
def test_built_json_of_another_shape_is_no_image(kept: Built, world: World, text: str) -> None:
    kept.archive.with_name("built.json").write_text(text)
    assert world.build() == kept


def test_a_changed_manifest_is_built_anew(kept: Built, world: World, tmp_path: Path) -> None:
    with open_archive(kept.archive) as archive:
        image = archive.image
        blobs = {}
        for one in image.layers:
            blobs[one.digest] = tmp_path / one.digest
            blobs[one.digest].write_bytes(archive.blob(one).read())
    with (tmp_path / "evil.tar").open("wb") as out:
        oci.write(replace(image, manifest={**image.manifest, "annotations": {"evil": "yes"}}), blobs, out)
    put(kept, tmp_path / "evil.tar")
    assert world.build() == kept
    assert "It is built anew." in world.said.getvalue()


@pytest.mark.parametrize("index", [0, 1])
def test_a_changed_layer_is_seen_where_it_is_used(
    kept: Built, world: World, tmp_path: Path, index: int, spool: Spool
) -> None:
    spoiled = kept.archive.read_bytes()

    def spoil() -> Built:
        kept.archive.write_bytes(spoiled)
        put(kept, kept.archive.rename(tmp_path / "kept.tar"))
        spoil_layer(kept, index)
        return world.build()  # a look-up hashes no layers

    def stream(built: Built) -> None:
        with opened(built) as archive:
            for _ in archive.stream():
                pass

    def read(built: Built) -> None:
        with opened(built) as archive:
            archive.tree(spool)

    def copy(_built: Built) -> None:
        build(world.project, ORDER, Progress(world.said), output=tmp_path / "out.tar")

    uses = [stream, read, copy, *([sbom.read] if index == 1 else [])]
    for use in uses:
        built = spoil()
        with pytest.raises(ArchiveError, match=r"image\.tar is damaged.*It is built anew by: invoke build"):
            use(built)
        assert not (tmp_path / "out.tar").exists()
    assert world.build() == kept  # for what was found out is forgotten
    assert kept.archive.read_bytes() == spoiled


def test_a_layer_that_is_not_the_configurations_is_seen(
    kept: Built, world: World, tmp_path: Path, spool: Spool
) -> None:
    """Every name agrees with what it names, but the manifest's second layer is not the configuration's."""
    evil = tampered(kept, tmp_path)
    with open_archive(evil) as archive, open_archive(kept.archive) as good:
        wrong = replace(archive.image.layers[1], diff_id=kept.layers[1].diff_id)
        layers = (kept.layers[0], wrong)
        blobs = {one.digest: tmp_path / one.digest for one in layers}
        blobs[layers[0].digest].write_bytes(good.blob(layers[0]).read())
        blobs[wrong.digest].write_bytes(archive.blob(archive.image.layers[1]).read())
        described = [{"mediaType": one.media_type, "digest": one.digest, "size": one.size} for one in layers]
        image = replace(good.image, manifest={**good.image.manifest, "layers": described}, layers=layers)
    with (tmp_path / "x.tar").open("wb") as out:
        oci.write(image, blobs, out)
    put(kept, tmp_path / "x.tar")
    built = world.build(frozen=True)  # its configuration is the sealed one
    assert built.image_id == kept.image_id
    for use in (lambda: open_tree(built, spool), lambda: sbom.read(built)):
        put(kept, tmp_path / "x.tar")
        with pytest.raises(ArchiveError, match="in the place of the layer"):
            use()
    put(kept, tmp_path / "x.tar")
    found = rebuild.against(world.project, ORDER, tmp_path / "x.tar", Progress(world.said))
    assert [one.path for one in found] == ["usr/bin/greet", "var/lib/dpkg/info/greeter.list"]


def open_tree(built: Built, spool: Spool) -> None:
    with opened(built) as archive:
        archive.tree(spool)


def test_a_poisoned_parent_does_not_get_into_a_child(kept: Built, world: World) -> None:
    base = world.build("base")
    folder = base.archive.parent
    files = {path: path.read_bytes() for path in folder.iterdir() if path.name != "lock"}
    kept.archive.with_name("built.json").unlink()
    try:
        spoil_layer(base, 0)
        with pytest.raises(ArchiveError, match=r"base.*image\.tar is damaged"):
            world.build()
    finally:
        for path, content in files.items():
            path.write_bytes(content)


def test_who_builds_something_else_than_is_sealed_is_told(sealed: Built, world: World) -> None:
    (world.project.images / "app" / "image.toml").write_text(
        'parent = "base"\npackages = ["greeter"]\n[folders]\n"/more" = "0755"\n'
    )
    assert world.build().image_id != sealed.image_id
    said = world.said.getvalue()
    assert f"its id is {world.build().image_id}, the lock says {sealed.image_id}." in said
    assert "If recipe, files or programs were changed on purpose: invoke lock --seal" in said
    with pytest.raises(DifferentError, match="is not the image that its lock promises"):
        world.build(frozen=True)
    seal.seal(world.project, ORDER, Progress(world.said))  # builds to learn the ids
    world.said.truncate(0)
    world.said.seek(0)
    world.build(frozen=True)
    assert world.said.getvalue() == ""


def test_a_lock_without_ids_gets_one_note(world: World) -> None:
    said = io.StringIO()
    progress = Progress(said)
    for _ in range(2):
        build(world.project, replace(ORDER, frozen=True), progress)
    assert said.getvalue().count("The lock of app names no ids to compare with.") == 1
    assert "warning" not in said.getvalue()


def test_verification_asks_the_state_folder_for_nothing(
    kept: Built, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What equals the sealed ids is not even rebuilt; and a lock without ids is rebuilt elsewhere."""
    good = tmp_path / "good.tar"
    shutil.copyfile(kept.archive, good)
    evil = tampered(kept, tmp_path)
    put(kept, evil)
    progress = Progress(world.said)
    with monkeypatch.context() as patch:
        patch.setattr(builds, "build", None)
        assert rebuild.against(world.project, ORDER, good, progress) == []
    unsealed(world)
    assert rebuild.against(world.project, ORDER, good, progress) == []
    assert rebuild.against(world.project, ORDER, evil, progress) != []
    assert "warning: The lock of app names no ids" in world.said.getvalue()


def unsealed(world: World) -> None:
    """Take the ids out of the lock of app."""
    (path,) = (world.project.images / "app").glob("*.lock")
    locks.write(replace(locks.read(path), expected=None), path)


def test_what_the_recipe_builds_now_is_not_equal_unless_sealed(
    sealed: Built, world: World, tmp_path: Path
) -> None:
    (world.project.images / "app" / "image.toml").write_text(
        'parent = "base"\npackages = ["greeter"]\n[folders]\n"/more" = "0755"\n'
    )
    build(world.project, ORDER, Progress(world.said), output=tmp_path / "new.tar")
    found = rebuild.against(world.project, ORDER, tmp_path / "new.tar", Progress(world.said))
    assert {(one.layer, one.how) for one in found} == {(-1, "not the lock's ids")}
    assert "What is rebuilt here is not what its lock promises" in world.said.getvalue()


def test_without_a_rebuild_it_is_different_all_the_same(kept: Built, world: World, tmp_path: Path) -> None:
    evil = tampered(kept, tmp_path)
    project = Project(world.project.root, world.project.state, tmp_path / "no-cache")
    world.server.faults.gone.update(f"/{stanza['Filename']}" for stanza in world.archive.stanzas)
    try:
        found = rebuild.against(project, ORDER, evil, Progress(world.said))
    finally:
        world.server.faults.gone.clear()
    assert [one.how for one in found] == ["not the lock's ids"] * 2
    assert "Without a rebuild no paths can be named." in world.said.getvalue()


def test_a_lock_without_ids_stands_over_one_that_has_some(sealed: Built, world: World) -> None:
    """A child of a forged base, as it would come out, is told from one of the sealed base."""
    unsealed(world)
    first = world.build()
    assert "warning" not in world.said.getvalue()
    forged = replace(first, layers=(replace(first.layers[0], diff_id="sha256:" + "0" * 64), first.layers[1]))
    with pytest.raises(DifferentError, match=r"layer 0 is sha256:0+, the lock says sha256:"):
        expected_ids.hold(forged, Progress(world.said), frozen=True)


def test_a_healed_build_is_not_held_to_ids(sealed: Built, world: World) -> None:
    healed = replace(sealed, image_id="sha256:" + "0" * 64, from_lock=False)
    expected_ids.hold(healed, Progress(world.said), frozen=True)
    assert world.said.getvalue() == ""
    with pytest.raises(DifferentError):
        expected_ids.hold(replace(healed, from_lock=True), Progress(world.said), frozen=True)
