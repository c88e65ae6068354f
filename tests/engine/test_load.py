"""Loading sends what is missing, and nothing else: archives here lack what need not be sent."""

from __future__ import annotations

import io
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from dindkit.engine import load, load_if_running
from dindkit.engine.discover import Engine, connect
from dindkit.errors import DamagedError, EngineError
from dindkit.formats import oci
from dindkit.formats.contents import ContentStore
from dindkit.formats.image_archive import open_archive
from dindkit.image import built as built_images
from dindkit.image.build import Built
from dindkit.image.build_options import BuildOptions
from dindkit.image.built import opened
from dindkit.image.expected_ids import DifferentError
from dindkit.progress import Progress
from dindkit.project import Project
from dindkit.review import verify
from tests.engine.dind import Containers
from tests.support.layers import store
from tests.support.local_project import LocalProject
from tests.support.suites import with_recipes

pytestmark = pytest.mark.engine


def without(built: Built, layers: int, target: Path) -> Built:
    """Return `built` in a state folder that lacks its lowest `layers`."""
    moved = replace(built, folder=target / "images" / "moved")
    for one in built.layers[layers:]:
        path = moved.store.path(one.diff_id)
        path.parent.mkdir(parents=True)
        shutil.copyfile(built.store.path(one.diff_id), path)
    return moved


def test_an_image_that_is_there_is_only_tagged(engine: Engine, base: Built, tmp_path: Path) -> None:
    nothing = without(base, len(base.layers), tmp_path)
    load.load(engine, replace(nothing, reference="dindkit/once-more:test"), Progress(quiet=True))
    found = engine.client.images.get("dindkit/once-more:test")
    engine.client.images.remove("dindkit/once-more:test")
    assert found.id == engine.client.images.get(base.reference).id


def test_an_image_of_another_architecture_is_not_loaded(engine: Engine, base: Built) -> None:
    other = {"amd64": "arm64", "arm64": "amd64"}[base.inputs.lock.architecture]
    inputs = replace(base.inputs, lock=replace(base.inputs.lock, architecture=other))
    foreign = built_images.of(inputs, base.layers, base.sources, base.folder)
    before = {image.id for image in engine.client.images.list()}
    with pytest.raises(load.OtherArchitectureError, match=rf"is for {other}, and .* runs"):
        load.load(engine, foreign, Progress(quiet=True))
    assert {image.id for image in engine.client.images.list()} == before


def with_engine(containers: Containers, settings: str = "{}") -> Engine:
    """Start a daemon with these settings in its daemon.json, and connect to it."""
    daemon = containers.daemon(
        "--host=tcp://0.0.0.0:2375",
        environment={"DOCKER_TLS_CERTDIR": ""},
        files={"/etc/docker/daemon.json": settings},
    )
    return connect(f"tcp://{daemon.address}:2375", "a test")


def test_layers_of_the_parent_are_not_sent_again(
    containers: Containers, small_project: LocalProject, tmp_path: Path
) -> None:
    engine = with_engine(containers)
    base, app = small_project.build("base"), small_project.build("app")
    with pytest.raises(EngineError, match="does not load the image"):
        load.load(engine, without(app, len(base.layers), tmp_path / "first"), Progress(quiet=True))
    load.load(engine, base, Progress(quiet=True))
    load.load(engine, without(app, len(base.layers), tmp_path / "second"), Progress(quiet=True))
    assert engine.client.images.get(app.reference).attrs["RootFS"]["Layers"] == [
        layer.diff_id for layer in app.layers
    ]


def test_an_engine_with_containerds_image_store(
    containers: Containers, small_project: LocalProject, tmp_path: Path
) -> None:
    """Its image ids are digests of manifests, and it wants to see every layer."""
    engine = with_engine(containers, '{"features": {"containerd-snapshotter": true}}')
    driver = engine.client.info()["DriverStatus"]
    assert ["driver-type", "io.containerd.snapshotter.v1"] in driver
    base, app = small_project.build("base"), small_project.build("app")
    for built in (base, app, app):
        load.load(engine, built, Progress(quiet=True))
    found = engine.client.images.get(app.reference)
    assert found.id != app.image_id
    with opened(app) as layout:
        assert found.id in layout.ids
    said = engine.client.containers.run(app.reference, ["sh", "/usr/bin/greet"], remove=True)
    assert said == b"hello\n"
    saved = tmp_path / "saved.tar"
    saved.write_bytes(b"".join(found.save(named=True)))
    with open_archive(saved) as archive:
        assert app.image_id in archive.ids


def spoiled(built: Built, target: Path) -> Built:
    """Return `built` in a state folder where one byte of its highest layer is another."""
    moved = replace(built, folder=target / "images" / "moved")
    for layer_of_it in built.layers:
        path = moved.store.path(layer_of_it.diff_id)
        path.parent.mkdir(parents=True)
        shutil.copyfile(built.store.path(layer_of_it.diff_id), path)
    content = bytearray(path.read_bytes())
    content[512 * 3 + 7] ^= 1
    path.write_bytes(content)
    return moved


def poisoned(built: Built, target: Path) -> Path:
    """Write the image `built` with one more file in its highest layer, under the same names."""
    contents = ContentStore(target.parent)
    blobs = {}
    with open_archive(built.archive) as archive:
        image = archive.image
        for one in image.layers[:-1]:
            blobs[one.digest] = target.with_name(one.digest)
            blobs[one.digest].write_bytes(archive.blob(one).read())
        entries = list(archive.entries(image.layers[-1], contents))
    with target.with_name("blob").open("wb") as out:
        made = store([*entries, replace(entries[0], path="evil")], contents, out)
    blobs[made.digest] = target.with_name("blob")
    layers = (*image.layers[:-1], made)
    config = {**image.config, "rootfs": {"type": "layers", "diff_ids": [one.diff_id for one in layers]}}
    text = oci.document(config)
    described = {
        "config": {"mediaType": oci.CONFIG, "digest": oci.digest(text), "size": len(text)},
        "layers": oci.described(layers),
    }
    with target.open("wb") as out:
        oci.write(
            replace(image, config=config, manifest={**image.manifest, **described}, layers=layers), blobs, out
        )
    return target


def test_another_image_under_our_name_is_not_taken_for_ours(
    engine: Engine, project: Project, base: Built, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """The engine's word for it does not count: the image is saved and hashed."""
    evil = poisoned(base, tmp_path / "evil.tar")
    engine.client.images.load(evil.read_bytes())
    assert engine.client.images.get(base.reference).id != base.image_id
    project, options = (
        with_recipes(project),
        BuildOptions(image="base", suite=pytestconfig.getoption("--suite")),
    )
    out = io.StringIO()
    try:
        with pytest.raises(DifferentError, match="differs from what its lock builds in 1 place"):
            verify.run(project, options, Progress(quiet=True), out, image=base.reference)
        assert out.getvalue() == "layer 1: /evil: extra\n"
    finally:
        forged = engine.client.images.get(base.reference).id
        load.load(engine, base, Progress(quiet=True))
        engine.client.images.remove(str(forged), force=True)
    assert engine.client.images.get(base.reference).id == base.image_id
    out = io.StringIO()
    verify.run(project, options, Progress(quiet=True), out, image=base.reference)
    assert out.getvalue() == f"equal: {base.reference}\n"


def test_a_forged_layer_is_not_sent(containers: Containers, base: Built, tmp_path: Path) -> None:
    engine = with_engine(containers)
    with pytest.raises(DamagedError, match=r"layer\.tar is damaged or forged: it is not what was built"):
        load.load(engine, spoiled(base, tmp_path), Progress(quiet=True))
    assert engine.client.images.list() == []


def test_offer_says_where_the_image_is(
    engine: Engine, project: Project, base: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.StringIO()
    load_if_running.load_if_running(project, base, Progress(stream))
    assert f"{base.reference} is loaded into {engine.host}" in stream.getvalue()
    monkeypatch.setenv("DOCKER_HOST", "unix:///nobody/listens")
    stream = io.StringIO()
    load_if_running.load_if_running(project, base, Progress(stream))
    assert "DOCKER_HOST: no engine answers at unix:///nobody/listens" in stream.getvalue()
    assert str(base.folder) in stream.getvalue()
