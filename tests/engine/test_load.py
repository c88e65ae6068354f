"""Loading sends what is missing, and nothing else: archives here lack what need not be sent."""

from __future__ import annotations

import io
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from dindkit.engine import load
from dindkit.engine.discover import Engine, connect
from dindkit.errors import DamagedError
from dindkit.formats.image_archive import open_archive
from dindkit.image.build import Built
from dindkit.progress import Progress
from dindkit.project import Project
from tests.engine.dind import Bench

pytestmark = pytest.mark.engine


def without(built: Built, layers: int, target: Path) -> Built:
    """Return `built` in a state folder that lacks its lowest `layers`."""
    moved = replace(built, folder=target / "images" / "moved")
    shutil.copytree(built.folder, moved.folder)
    for layer in built.layers[layers:]:
        path = moved.store.path(layer.diff_id)
        path.parent.mkdir(parents=True)
        path.symlink_to(built.store.path(layer.diff_id))
    return moved


def test_an_image_that_is_there_is_only_tagged(engine: Engine, base: Built, tmp_path: Path) -> None:
    nothing = without(base, len(base.layers), tmp_path)
    load.load(engine, replace(nothing, reference="dindkit/once-more:test"), Progress(quiet=True))
    found = engine.client.images.get("dindkit/once-more:test")
    engine.client.images.remove("dindkit/once-more:test")
    assert found.id == engine.client.images.get(base.reference).id


def test_layers_of_the_parent_are_not_sent_again(
    engine: Engine, dind: Built, base: Built, tmp_path: Path
) -> None:
    for container in engine.client.containers.list(all=True, filters={"ancestor": dind.reference}):
        container.remove(force=True, v=True)
    engine.client.images.remove(dind.reference, force=True)
    try:
        load.load(engine, without(dind, len(base.layers), tmp_path), Progress(quiet=True))
        assert engine.client.images.get(dind.reference).attrs["RootFS"]["Layers"] == [
            layer.diff_id for layer in dind.layers
        ]
    finally:
        load.load(engine, dind, Progress(quiet=True))


def test_an_engine_with_containerds_image_store(
    make: Bench, dind: Built, base: Built, tmp_path: Path
) -> None:
    """Its image ids are digests of manifests, and it wants to see every layer."""
    settings = {"/etc/docker/daemon.json": '{"features": {"containerd-snapshotter": true}}'}
    daemon = make.daemon("--host=tcp://0.0.0.0:2375", environment={"DOCKER_TLS_CERTDIR": ""}, files=settings)
    engine = connect(f"tcp://{daemon.address}:2375", "a test")
    driver = engine.client.info()["DriverStatus"]
    assert ["driver-type", "io.containerd.snapshotter.v1"] in driver
    for built in (base, dind, dind):
        load.load(engine, built, Progress(quiet=True))
    found = engine.client.images.get(dind.reference)
    assert found.id != dind.image_id
    assert found.id in dind.layout().ids
    assert engine.client.containers.run(base.reference, ["echo", "seen"], remove=True) == b"seen\n"
    saved = tmp_path / "saved.tar"
    saved.write_bytes(b"".join(found.save(named=True)))
    with open_archive(saved) as archive:
        assert dind.image_id in archive.ids


def test_an_image_that_is_not_what_it_was_is_named(engine: Engine, base: Built, tmp_path: Path) -> None:
    broken = without(base, len(base.layers), tmp_path)
    config = broken.folder / "config.json"
    config.write_text(config.read_text().replace('"Cmd":["bash"]', '"Cmd":["evil"]'))
    with pytest.raises(DamagedError, match=r"config\.json no longer holds what was written to it"):
        load.load(engine, broken, Progress(quiet=True))


def test_offer_says_where_the_image_is(
    engine: Engine, project: Project, base: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.StringIO()
    load.load_if_running(project, base, Progress(stream))
    assert f"{base.reference} is loaded into {engine.host}" in stream.getvalue()
    monkeypatch.setenv("DOCKER_HOST", "unix:///nobody/listens")
    stream = io.StringIO()
    load.load_if_running(project, base, Progress(stream))
    assert "DOCKER_HOST: no engine answers at unix:///nobody/listens" in stream.getvalue()
    assert str(base.folder) in stream.getvalue()
