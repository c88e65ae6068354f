"""What lies in the state folder is not believed: each way of poisoning it is seen where the image is used."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from dindkit.errors import DamagedError
from dindkit.formats.contents import ContentStore
from dindkit.formats.image_archive import open_archive
from dindkit.image import build as builds
from dindkit.image import built as built_images
from dindkit.image import expected_ids, rebuild, sbom, seal
from dindkit.image.build import Built, build, build_and_write
from dindkit.image.build_options import BuildOptions
from dindkit.image.built import opened
from dindkit.image.expected_ids import DifferentError
from dindkit.image.output import Output
from dindkit.packages import lock as locks
from dindkit.progress import Progress
from dindkit.project import Project
from tests.image.test_rebuild import tampered
from tests.support.local_project import LocalProject

OPTIONS = BuildOptions(image="app")


@pytest.fixture
def local_project(small_project: LocalProject) -> LocalProject:
    """Give the small one: what is kept is believed or not whatever packages hold."""
    return small_project


@pytest.fixture
def sealed(local_project: LocalProject) -> Built:
    """Give the image of the local project, over a lock that names its ids."""
    seal.seal(local_project.project, OPTIONS, Progress(local_project.said))
    built = local_project.build()
    local_project.said.truncate(0)
    local_project.said.seek(0)
    return built


@pytest.fixture
def kept(sealed: Built) -> Iterator[Built]:
    """Give it, to be poisoned; the state folder's files are put back afterwards."""
    state = sealed.folder.parents[1]
    folders = [sealed.folder, *(sealed.store.path(one.diff_id).parent for one in sealed.layers)]
    folders += list((state / "packages").iterdir())
    files = {path: path.read_bytes() for one in folders for path in one.iterdir() if path.name != "lock"}
    yield sealed
    for path, content in files.items():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)


def put(built: Built, archive: Path) -> None:
    """Let the state folder say that the image in `archive` was built, and hold its layers."""
    with open_archive(archive) as found, closing(ContentStore(archive.parent)) as contents:
        layers = [built.store.add(found.entries(one, contents), contents) for one in found.image.layers]
        assert [one.diff_id for one in layers] == [one.diff_id for one in found.image.layers]
    forged = built_images.of(built.inputs, tuple(layers), built.sources, built.folder)
    built_images.write(forged)
    for path in (built.folder.parents[1] / "packages").glob("app-*/layer.json"):
        path.write_text(json.dumps(asdict(layers[-1])))


def spoil_layer(built: Built, index: int) -> None:
    """Change one byte amid the first file of a layer, and nothing that says what the layer is."""
    path = built.store.path(built.layers[index].diff_id)
    with tarfile.open(path) as archive:
        member = next(one for one in archive if one.isreg() and one.size)
    with path.open("r+b") as file:
        file.seek(member.offset_data + member.size // 2)
        byte = file.read(1)[0]
        file.seek(-1, io.SEEK_CUR)
        file.write(bytes([byte ^ 1]))


def test_what_was_built_and_sealed_is_taken_without_a_word(
    sealed: Built, local_project: LocalProject
) -> None:
    assert local_project.build(frozen=True) == sealed
    assert local_project.said.getvalue() == ""


def test_a_whole_forgery_is_another_image_than_the_lock_promises(
    kept: Built, local_project: LocalProject, tmp_path: Path
) -> None:
    evil = tampered(kept, tmp_path)
    put(kept, evil)
    with pytest.raises(DifferentError, match=r"dindkit/app:trixie is not the image.*layer 2 is.*lock --seal"):
        local_project.build(frozen=True)
    assert local_project.build().image_id != kept.image_id
    assert (
        "warning: dindkit/app:trixie is not the image that its lock promises" in local_project.said.getvalue()
    )
    found = rebuild.against(local_project.project, OPTIONS, evil, Progress(local_project.said))
    assert [(one.layer, one.path, one.how) for one in found] == [
        (2, "usr/bin/greet", "content"),
        (2, "var/lib/dpkg/info/greeter.list", "mode"),
    ]


def test_built_json_that_names_another_id_is_not_believed(kept: Built, local_project: LocalProject) -> None:
    path = kept.folder / "built.json"
    path.write_text(path.read_text().replace(kept.image_id, "sha256:" + "0" * 64))
    assert local_project.build().image_id == kept.image_id
    assert "It is built anew." in local_project.said.getvalue()


@pytest.mark.parametrize("text", ["", "[" * 100_000, "[]", '{"bytes": 1}', '{"layers": [{}]}', '"x"'])
def test_built_json_of_another_shape_is_no_image(kept: Built, local_project: LocalProject, text: str) -> None:
    (kept.folder / "built.json").write_text(text)
    assert local_project.build() == kept


@pytest.mark.parametrize("index", [0, 2])
def test_a_changed_layer_is_seen_where_it_is_used(
    kept: Built, local_project: LocalProject, tmp_path: Path, index: int, contents: ContentStore
) -> None:
    good = kept.store.path(kept.layers[index].diff_id).read_bytes()

    def spoil() -> Built:
        kept.store.path(kept.layers[index].diff_id).write_bytes(good)
        spoil_layer(kept, index)
        return local_project.build()  # a look-up hashes no layers

    def stream(built: Built) -> None:
        with opened(built) as layout:
            for _ in layout.stream():
                pass

    def read(built: Built) -> None:
        with opened(built) as layout:
            layout.tree(contents)

    def copy(_built: Built) -> None:
        for layer in kept.layers:
            kept.store.compressed_path(layer.diff_id).unlink(missing_ok=True)
        build_and_write(
            local_project.project, OPTIONS, Progress(local_project.said), Output(tmp_path / "out.tar")
        )

    def archive(built: Built) -> None:
        assert built.archive

    uses = [stream, read, copy, archive, sbom.read]
    for use in uses:
        built = spoil()
        with pytest.raises(DamagedError, match=r"layer\.tar is damaged.*It is built anew by: invoke build"):
            use(built)
        assert not (tmp_path / "out.tar").exists()
    if index == 2:
        assert local_project.build() == kept  # for what was found out is forgotten
        assert kept.store.path(kept.layers[index].diff_id).read_bytes() == good


def test_a_kept_compressed_layer_is_not_believed(
    kept: Built, local_project: LocalProject, tmp_path: Path
) -> None:
    for _ in range(2):
        build_and_write(
            local_project.project, OPTIONS, Progress(local_project.said), Output(tmp_path / "out.tar")
        )
        path = kept.store.compressed_path(kept.layers[2].diff_id)
        good = path.read_bytes()
        other = kept.store.compressed_path(kept.layers[1].diff_id)
        path.write_bytes(other.read_bytes())
    build_and_write(
        local_project.project, OPTIONS, Progress(local_project.said), Output(tmp_path / "out.tar")
    )
    assert path.read_bytes() == good
    with open_archive(tmp_path / "out.tar") as archive:
        archive.hold_layers()
        assert archive.image_id == kept.image_id


def test_a_poisoned_parent_does_not_get_into_a_child(kept: Built, local_project: LocalProject) -> None:
    shutil.rmtree(kept.folder)
    for path in (kept.folder.parents[1] / "packages").glob("app-*"):
        shutil.rmtree(path)
    spoil_layer(kept, 0)
    with pytest.raises(DamagedError, match=r"layer\.tar is damaged"):
        local_project.build()
    assert local_project.build() == kept


def test_who_builds_something_else_than_is_sealed_is_told(sealed: Built, local_project: LocalProject) -> None:
    (local_project.project.images / "app" / "image.toml").write_text(
        'parent = "base"\npackages = ["greeter"]\n[folders]\n"/more" = "0755"\n'
    )
    assert local_project.build().image_id != sealed.image_id
    said = local_project.said.getvalue()
    assert f"its id is {local_project.build().image_id}, the lock says {sealed.image_id}." in said
    assert "If recipe, files or programs were changed on purpose: invoke lock --seal" in said
    with pytest.raises(DifferentError, match="is not the image that its lock promises"):
        local_project.build(frozen=True)
    seal.seal(local_project.project, OPTIONS, Progress(local_project.said))  # builds to learn the ids
    local_project.said.truncate(0)
    local_project.said.seek(0)
    local_project.build(frozen=True)
    assert local_project.said.getvalue() == ""


def test_a_lock_without_ids_gets_one_note(local_project: LocalProject) -> None:
    said = io.StringIO()
    progress = Progress(said)
    for _ in range(2):
        build(local_project.project, replace(OPTIONS, frozen=True), progress)
    assert said.getvalue().count("The lock of app names no ids to compare with.") == 1
    assert "warning" not in said.getvalue()


def test_verification_asks_the_state_folder_for_nothing(
    kept: Built, local_project: LocalProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What equals the sealed ids is not even rebuilt; and a lock without ids is rebuilt elsewhere."""
    good = tmp_path / "good.tar"
    shutil.copyfile(kept.archive, good)
    evil = tampered(kept, tmp_path)
    put(kept, evil)
    progress = Progress(local_project.said)
    with monkeypatch.context() as patch:
        patch.setattr(builds, "build", None)
        assert rebuild.against(local_project.project, OPTIONS, good, progress) == []
    unsealed(local_project)
    assert rebuild.against(local_project.project, OPTIONS, good, progress) == []
    assert rebuild.against(local_project.project, OPTIONS, evil, progress) != []
    assert "warning: The lock of app names no ids" in local_project.said.getvalue()


def unsealed(local_project: LocalProject) -> None:
    """Take the ids out of the lock of app."""
    (path,) = (local_project.project.images / "app").glob("*.lock")
    locks.write(replace(locks.read(path), expected=None), path)


def test_what_the_recipe_builds_now_is_not_equal_unless_sealed(
    sealed: Built, local_project: LocalProject, tmp_path: Path
) -> None:
    (local_project.project.images / "app" / "image.toml").write_text(
        'parent = "base"\npackages = ["greeter"]\n[folders]\n"/more" = "0755"\n'
    )
    build_and_write(
        local_project.project, OPTIONS, Progress(local_project.said), Output(tmp_path / "new.tar")
    )
    found = rebuild.against(
        local_project.project, OPTIONS, tmp_path / "new.tar", Progress(local_project.said)
    )
    assert {(one.layer, one.how) for one in found} == {(-1, "not the lock's ids")}
    assert "What is rebuilt here is not what its lock promises" in local_project.said.getvalue()


def test_without_a_rebuild_it_is_different_all_the_same(
    kept: Built, local_project: LocalProject, tmp_path: Path
) -> None:
    evil = tampered(kept, tmp_path)
    project = Project(local_project.project.root, local_project.project.state, tmp_path / "no-cache")
    local_project.server.faults.gone.update(
        f"/{stanza['Filename']}" for stanza in local_project.archive.stanzas
    )
    try:
        found = rebuild.against(project, OPTIONS, evil, Progress(local_project.said))
    finally:
        local_project.server.faults.gone.clear()
    assert [one.how for one in found] == ["not the lock's ids"] * 2
    assert "Without a rebuild no paths can be named." in local_project.said.getvalue()


def test_a_lock_without_ids_stands_over_one_that_has_some(sealed: Built, local_project: LocalProject) -> None:
    """A child of a forged base, as it would come out, is told from one of the sealed base."""
    unsealed(local_project)
    first = local_project.build()
    assert "warning" not in local_project.said.getvalue()
    forged = replace(first, layers=(replace(first.layers[0], diff_id="sha256:" + "0" * 64), first.layers[1]))
    with pytest.raises(DifferentError, match=r"layer 0 is sha256:0+, the lock says sha256:"):
        expected_ids.check(forged, Progress(local_project.said), frozen=True)


def test_a_solved_build_is_not_held_to_ids(sealed: Built, local_project: LocalProject) -> None:
    solved = replace(sealed, image_id="sha256:" + "0" * 64, from_lock=False)
    expected_ids.check(solved, Progress(local_project.said), frozen=True)
    assert local_project.said.getvalue() == ""
    with pytest.raises(DifferentError):
        expected_ids.check(replace(solved, from_lock=True), Progress(local_project.said), frozen=True)
