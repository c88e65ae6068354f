"""Loading sends what is missing, and nothing else: archives here lack what need not be sent."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest

from dindkit.engine import load
from dindkit.engine.discover import Engine, connect
from dindkit.formats import layer, oci
from dindkit.formats.image_archive import ArchiveError, open_archive
from dindkit.formats.tree import Spool
from dindkit.image.build import Built
from dindkit.image.expected_ids import DifferentError
from dindkit.image.order import Order
from dindkit.progress import Progress
from dindkit.project import Project
from dindkit.review import verify
from tests.engine.dind import Bench

pytestmark = [pytest.mark.engine, pytest.mark.alone]


def without(built: Built, layers: int, target: Path) -> Built:
    """Return `built` with an archive that lacks its lowest `layers`."""
    with open_archive(built.archive) as archive:
        target.write_bytes(b"".join(archive.stream(archive.image.layers[:layers])))
    return replace(built, archive=target)


def test_an_image_that_is_there_is_only_tagged(engine: Engine, base: Built, tmp_path: Path) -> None:
    nothing = without(base, 1, tmp_path / "nothing.tar")
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
        load.load(engine, without(dind, 1, tmp_path / "child.tar"), Progress(quiet=True))
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
    with open_archive(dind.archive) as archive:
        assert found.id in archive.ids
    assert engine.client.containers.run(base.reference, ["echo", "seen"], remove=True) == b"seen\n"
    saved = tmp_path / "saved.tar"
    saved.write_bytes(b"".join(found.save(named=True)))
    with open_archive(saved) as archive:
        assert dind.image_id in archive.ids


def test_what_is_no_archive_is_named(engine: Engine, base: Built, tmp_path: Path) -> None:
    broken = tmp_path / "broken.tar"
    broken.write_bytes(base.archive.read_bytes()[:100_000])
    with pytest.raises(ArchiveError, match=r"broken\.tar is not an image archive"):
        load.load(engine, replace(base, archive=broken), Progress(quiet=True))


def poisoned(built: Built, target: Path) -> Path:
    """Write the image `built` with one more file in its highest layer, under the same names."""
    spool = Spool(target.parent)
    blobs = {}
    with open_archive(built.archive) as archive:
        image = archive.image
        for one in image.layers[:-1]:
            blobs[one.digest] = target.with_name(one.digest)
            blobs[one.digest].write_bytes(archive.blob(one).read())
        entries = list(archive.entries(image.layers[-1], spool))
    with target.with_name("blob").open("wb") as out:
        made = layer.store([*entries, replace(entries[0], path="evil")], spool, out)
    blobs[made.digest] = target.with_name("blob")
    layers = (*image.layers[:-1], made)
    config = {**image.config, "rootfs": {"type": "layers", "diff_ids": [one.diff_id for one in layers]}}
    text = oci.document(config)
    described = {
        "config": {"mediaType": oci.CONFIG, "digest": oci.digest(text), "size": len(text)},
        "layers": [{"mediaType": one.media_type, "digest": one.digest, "size": one.size} for one in layers],
    }
    with target.open("wb") as out:
        oci.write(
            replace(image, config=config, manifest={**image.manifest, **described}, layers=layers), blobs, out
        )
    return target


def test_another_image_under_our_name_is_not_taken_for_ours(
    engine: Engine, project: Project, base: Built, tmp_path: Path
) -> None:
    """The engine's word for it does not count: the image is saved and hashed."""
    evil = poisoned(base, tmp_path / "evil.tar")
    engine.client.images.load(evil.read_bytes())
    assert engine.client.images.get(base.reference).id != base.image_id
    order, out = Order(image="base"), io.StringIO()
    try:
        with pytest.raises(DifferentError, match="differs from what its lock builds in 1 place"):
            verify.run(project, order, Progress(quiet=True), out, image=base.reference)
        assert out.getvalue() == "layer 0: /evil: extra\n"
    finally:
        forged = engine.client.images.get(base.reference).id
        load.load(engine, base, Progress(quiet=True))
        engine.client.images.remove(str(forged), force=True)
    assert engine.client.images.get(base.reference).id == base.image_id
    out = io.StringIO()
    verify.run(project, order, Progress(quiet=True), out, image=base.reference)
    assert out.getvalue() == f"equal: {base.reference}\n"


def test_a_forged_archive_is_not_sent(engine: Engine, base: Built, tmp_path: Path) -> None:
    evil = poisoned(base, tmp_path / "image.tar")
    with pytest.raises(ArchiveError, match="it is not the image that was built"):
        load.load(engine, replace(base, archive=evil), Progress(quiet=True))


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
    assert str(base.archive) in stream.getvalue()
