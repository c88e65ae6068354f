"""What the tests of the entrypoint stand on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dindkit.engine.discover import Engine
from dindkit.image.build import Built
from tests.engine.dind import Containers, Dind, temporary_containers


@pytest.fixture
def containers(engine: Engine, dind: Built, base: Built) -> Iterator[Containers]:
    """Yield what makes containers of the image for one test."""
    with temporary_containers(engine, dind.reference, base) as made:
        yield made


@pytest.fixture(scope="module")
def shared_containers(engine: Engine, dind: Built, base: Built) -> Iterator[Containers]:
    """Yield what makes containers of the image for all tests of a module."""
    with temporary_containers(engine, dind.reference, base) as made:
        yield made


@pytest.fixture(scope="module")
def daemon(shared_containers: Containers) -> Dind:
    """Start a daemon as it comes, with the image `base` in it, for tests that leave it as it is."""
    return shared_containers.daemon().load(shared_containers.base)


@pytest.fixture(scope="session")
def engine_socket(engine: Engine) -> str:
    """Give the path of the engine's socket, as its containers can mount it."""
    if not engine.host.startswith("unix://"):
        pytest.skip("the engine has no socket on this machine")
    return engine.host.removeprefix("unix://")
