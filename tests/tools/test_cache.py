"""Images are had once: from a cache that outlives its source, or from a volume that has them already."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dindkit.engine.discover import Engine
from dindkit.errors import EngineError
from dindkit.image.build import Built
from dindkit.progress import Progress
from dindkit.project import Project
from dindkit.tools import cache, preload
from tests.engine.dind import Bench
from tests.engine.upstream import upstream

pytestmark = pytest.mark.engine


@pytest.fixture
def quiet(engine: Engine, project: Project) -> Iterator[Progress]:
    progress = Progress(quiet=True)
    yield progress
    cache.stop(project, progress, purge=True)


def test_what_was_pulled_once_is_there_when_the_source_is_gone(
    engine: Engine, project: Project, base: Built, make: Bench, tmp_path: Path, quiet: Progress
) -> None:
    with upstream(engine, tmp_path, {"library/other:1": base.archive}) as source:
        address = cache.start(project, quiet, f"http://{source}")
        assert cache.start(project, quiet, f"http://{source}") == address
        with pytest.raises(EngineError, match=r"another registry.*cache\.stop"):
            cache.start(project, quiet, "http://192.0.2.1")
        make.daemon(environment={cache.SETTING: address}).docker("pull", "--quiet", "other:1")
    second = make.daemon(environment={cache.SETTING: address})
    second.docker("pull", "--quiet", "other:1")
    assert second.docker("run", "--rm", "other:1", "echo", "cached") == "cached"
    # Names with a registry in them are not asked of a mirror: through the cache, by the cache's own address.
    host = address.removeprefix("http://")
    third = make.daemon(environment={"DIND_INSECURE_REGISTRIES": host})
    third.docker("pull", "--quiet", f"{host}/library/other:1")


def test_what_is_no_registry_is_named(engine: Engine, project: Project, quiet: Progress) -> None:
    with pytest.raises(EngineError, match="is no URL"):
        cache.start(project, quiet, "registry")


def test_a_start_that_was_killed(engine: Engine, project: Project, base: Built, quiet: Progress) -> None:
    """Once it had made the container, and before it started that."""
    source = "http://192.0.2.1"
    engine.client.containers.create(base.reference, name=cache.NAME, environment={cache.UPSTREAM: source})
    cache.start(project, quiet, source)
    assert engine.client.containers.get(cache.NAME).status == "running"


def test_a_preloaded_volume_has_its_images_at_once(
    engine: Engine, project: Project, base: Built, make: Bench
) -> None:
    engine.client.images.get(base.reference).tag("dindkit/preloaded", "test")
    volume = make.volume()
    try:
        preload.run(
            project, Progress(quiet=True), str(volume.id), [str(base.archive), "dindkit/preloaded:test"]
        )
    finally:
        engine.client.images.remove("dindkit/preloaded:test")
    assert not list(project.state.glob("preload-*"))
    daemon = make.daemon(volumes=[f"{volume.id}:/var/lib/docker"])
    for name in (base.reference, "dindkit/preloaded:test"):
        assert daemon.docker("run", "--rm", "--pull", "never", name, "echo", "there") == "there"


def test_an_archive_that_is_none_is_named(
    engine: Engine, project: Project, make: Bench, tmp_path: Path
) -> None:
    (tmp_path / "notes.tar").write_text("no archive")
    with pytest.raises(EngineError, match="cannot be loaded"):
        preload.run(project, Progress(quiet=True), str(make.volume().id), [str(tmp_path / "notes.tar")])
