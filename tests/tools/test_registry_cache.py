"""Images are had once: from a cache that outlives its source, or from a volume that has them already."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from docker.models.containers import Container

from dindkit.engine.discover import Engine, connect
from dindkit.errors import EngineError
from dindkit.image.build import Built
from dindkit.progress import Progress
from dindkit.project import Project
from dindkit.tools import preload, registry_cache
from tests.engine.dind import Containers
from tests.engine.upstream import upstream
from tests.support.small_image import small_image

pytestmark = pytest.mark.engine


@pytest.fixture
def quiet(engine: Engine, project: Project) -> Iterator[Progress]:
    progress = Progress(quiet=True)
    yield progress
    registry_cache.stop(project, progress, purge=True)


def test_what_was_pulled_once_is_there_when_the_source_is_gone(
    engine: Engine, project: Project, base: Built, containers: Containers, tmp_path: Path, quiet: Progress
) -> None:
    with upstream(engine, tmp_path, {"library/other:1": small_image(base, "other")}) as source:
        address = registry_cache.start(project, quiet, f"http://{source}")
        assert registry_cache.start(project, quiet, f"http://{source}") == address
        with pytest.raises(EngineError, match=r"another registry.*cache\.stop"):
            registry_cache.start(project, quiet, "http://192.0.2.1")
        containers.daemon(environment={registry_cache.SETTING: address}).docker("pull", "--quiet", "other:1")
    second = containers.daemon(environment={registry_cache.SETTING: address})
    second.docker("pull", "--quiet", "other:1")
    assert second.docker("run", "--rm", "other:1", "echo", "cached") == "cached"
    # Names with a registry in them are not asked of a mirror: through the cache, by the cache's own address.
    host = address.removeprefix("http://")
    third = containers.daemon(environment={"DIND_INSECURE_REGISTRIES": host})
    third.docker("pull", "--quiet", f"{host}/library/other:1")


def test_what_is_no_registry_is_named(engine: Engine, project: Project, quiet: Progress) -> None:
    with pytest.raises(EngineError, match="is no URL"):
        registry_cache.start(project, quiet, "registry")


def test_a_start_that_was_killed(
    engine: Engine,
    project: Project,
    base: Built,
    tmp_path: Path,
    quiet: Progress,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Once it had made the container, and before it started that."""

    class KilledError(BaseException):
        pass

    def end(_container: Container) -> None:
        raise KilledError

    with upstream(engine, tmp_path, {"library/other:1": small_image(base, "other")}) as source:
        with monkeypatch.context() as patch:
            patch.setattr(Container, "start", end)
            with pytest.raises(KilledError):
                registry_cache.start(project, quiet, f"http://{source}")
        assert engine.client.containers.get(registry_cache.NAME).status == "created"
        registry_cache.start(project, quiet, f"http://{source}")
        assert engine.client.containers.get(registry_cache.NAME).status == "running"


def test_a_preloaded_volume_has_its_images_at_once(
    engine: Engine, project: Project, base: Built, containers: Containers
) -> None:
    engine.client.images.get(base.reference).tag("dindkit/preloaded", "test")
    volume = containers.volume()
    try:
        preload.run(
            project, Progress(quiet=True), str(volume.id), [str(base.archive), "dindkit/preloaded:test"]
        )
    finally:
        engine.client.images.remove("dindkit/preloaded:test")
    assert not list(project.state.glob("preload-*"))
    daemon = containers.daemon(volumes=[f"{volume.id}:/var/lib/docker"])
    for name in (base.reference, "dindkit/preloaded:test"):
        assert daemon.docker("run", "--rm", "--pull", "never", name, "echo", "there") == "there"


def test_an_archive_that_is_none_is_named(
    engine: Engine, project: Project, containers: Containers, tmp_path: Path
) -> None:
    (tmp_path / "notes.tar").write_text("no archive")
    with pytest.raises(EngineError, match="cannot be loaded"):
        preload.run(project, Progress(quiet=True), str(containers.volume().id), [str(tmp_path / "notes.tar")])


def volumes(engine: Engine) -> set[str]:
    return {str(volume.name) for volume in engine.client.volumes.list()}


@pytest.mark.parametrize(
    ("volume", "images", "said"),
    [
        ("runner-data", [], "No image is named"),
        ("bad name", ["debian:13"], "'bad name' is no name of a volume"),
        ("/srv/data", ["debian:13"], "'/srv/data' is no name of a volume"),
        ("", ["debian:13"], "'' is no name of a volume"),
        ("runner-data", ["/no/such.tar"], "/no/such.tar does not exist"),
        ("runner-data", ["such.tar"], "such.tar does not exist"),
        ("runner-data", ["/tmp"], "/tmp is no file"),
        ("runner-data", ["bad name"], "'bad name' is no name of an image: invalid reference format"),
        ("runner-data", [""], "The name of an image is empty"),
    ],
)
def test_what_cannot_be_preloaded_leaves_no_volume(
    engine: Engine, project: Project, volume: str, images: list[str], said: str
) -> None:
    before = volumes(engine)
    with pytest.raises(EngineError, match=said):
        preload.run(project, Progress(quiet=True), volume, images)
    assert volumes(engine) == before


def test_a_volume_that_got_nothing_is_gone_unless_it_was_there(
    engine: Engine, project: Project, containers: Containers, tmp_path: Path
) -> None:
    (tmp_path / "notes.tar").write_text("no archive")
    there = str(containers.volume().id)
    before = volumes(engine)
    for volume in (there, "dindkit-was-not-there"):
        with pytest.raises(EngineError, match="cannot be loaded"):
            preload.run(project, Progress(quiet=True), volume, [str(tmp_path / "notes.tar")])
    assert volumes(engine) == before


def test_a_cache_that_was_stopped_is_started_again(
    engine: Engine, project: Project, base: Built, tmp_path: Path, quiet: Progress
) -> None:
    with upstream(engine, tmp_path, {"library/other:1": small_image(base, "other")}) as source:
        address = registry_cache.start(project, quiet, f"http://{source}")
        container = engine.client.containers.get(registry_cache.NAME)
        for hold in (container.stop, container.pause):
            hold()
            assert registry_cache.start(project, quiet, f"http://{source}") == address
            container.reload()
            assert container.status == "running"
        container.stop()
    with pytest.raises(EngineError, match="The cache does not answer"):  # its upstream is gone
        registry_cache.start(project, quiet, f"http://{source}")


IPV6 = {"Subnet": "fd00::/64", "Gateway": "fd00::1"}
IPV4 = {"Subnet": "172.17.0.0/16", "Gateway": "172.17.0.1"}


@pytest.mark.parametrize(
    ("entries", "gateway"),
    [
        ([IPV4], "172.17.0.1"),
        ([IPV6, IPV4], "172.17.0.1"),
        ([{"Subnet": "fd00::/64"}, IPV4], "172.17.0.1"),
        ([IPV6], ""),
        ([{"Subnet": "172.17.0.0/16"}], ""),
        (None, ""),
    ],
)
def test_the_bridges_gateway_is_its_ipv4_one(entries: Any, gateway: str) -> None:
    client = Mock()
    client.networks.get.return_value.attrs = {"IPAM": {"Config": entries}}
    engine = Engine(client, "unix:///a", "a test")
    if gateway:
        assert registry_cache._gateway(engine) == gateway
    else:
        with pytest.raises(EngineError, match="has no IPv4 gateway"):
            registry_cache._gateway(engine)


def test_a_daemon_with_ipv6_first_has_a_gateway(containers: Containers) -> None:
    """The order that dockerd itself gives its addresses, whichever that is."""
    settings = {"/etc/docker/daemon.json": '{"ipv6": true, "fixed-cidr-v6": "fd00:1::/64"}'}
    daemon = containers.daemon(
        "--host=tcp://0.0.0.0:2375", environment={"DOCKER_TLS_CERTDIR": ""}, files=settings
    )
    assert re.fullmatch(
        r"[0-9.]+", registry_cache._gateway(connect(f"tcp://{daemon.address}:2375", "a test"))
    )
