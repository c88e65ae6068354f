"""Fixtures of the whole suite: the built images, and one engine for the session."""

from __future__ import annotations

import compileall
import contextlib
import gc
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from dindkit import defaults
from dindkit.embedded.running import running_engine
from dindkit.engine import load
from dindkit.engine.discover import Engine
from dindkit.image.build import Built
from dindkit.progress import Progress
from dindkit.project import Project
from tests.support.engine_seed import plant, prepare_seed, remove_seed
from tests.support.memory_folder import temporary_files_in_memory
from tests.support.schedule import Scheduling, place
from tests.support.suites import build_image, prepare_suite, remove_suite
from tests.support.worker_host import hold_controllers, prepare_hosts, worker_host

#: Fixtures that tests of several folders use.
pytest_plugins = [
    "tests.support.local_project",
    "tests.support.tiny_project",
    "tests.support.author",
    "tests.support.ordinary_user",
    "tests.engine.fixtures",
]

# A shell starts background jobs with SIGINT ignored, which programs pass on; some tests press Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Set here, before pytest-xdist starts its workers, so that all of them have the same one.
# The gate tries the same cases each time, so that a change is judged by itself; elsewhere they are fresh.
fresh_seed = "1" if os.environ.get("CI") else str(int.from_bytes(os.urandom(4), "big"))
os.environ.setdefault("DINDKIT_FUZZ_SEED", fresh_seed)


def pytest_report_header() -> str:
    return f"fuzz seed: {os.environ['DINDKIT_FUZZ_SEED']} (DINDKIT_FUZZ_SEED repeats it)"


#: Fixtures that need a running engine, or packages from Debian's archive.
ENGINE = {"engine"}
ARCHIVE = {"base", "dind"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--quick", action="store_true", help="leave out what needs an engine or Debian's archive"
    )
    parser.addoption(
        "--full", action="store_true", help="run what takes too long for each change, too: outer engines"
    )
    parser.addoption("--suite", default=defaults.SUITE, help="the Debian suite of the images to test")
    parser.addoption(
        "--hosts",
        action="store_true",
        help="give each worker of pytest-xdist a network and an engine of its own (root)",
    )


def pytest_configure(config: pytest.Config) -> None:
    suite, hosts = config.getoption("--suite"), config.getoption("--hosts")
    if not hasattr(config, "workerinput"):
        config.add_cleanup(remove_suite)
        compileall.compile_dir(Project.here().root / "dindkit", quiet=2)  # once, and not in each worker
        prepare_suite(suite, Progress())
        if hosts:
            config.add_cleanup(temporary_files_in_memory())
            config.add_cleanup(prepare_hosts(Project.here(), suite, Progress()))
            prepare_seed()
            config.add_cleanup(remove_seed)
            config.add_cleanup(hold_controllers())
    elif hosts:
        leave = contextlib.ExitStack()
        os.environ["DINDKIT_STATE"] = str(leave.enter_context(worker_host(Project.here())))
        config.add_cleanup(leave.close)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark each test by what it needs, as its fixtures tell; with --quick, leave out what needs much.

    The long files of tests/support/schedule.py come first, and then files with tests that need much.
    """
    for item in items:
        needs = set(getattr(item, "fixturenames", ()))
        if needs & ENGINE:
            item.add_marker(pytest.mark.engine)
        if needs & ARCHIVE:
            item.add_marker(pytest.mark.archive)
    slow = [item for item in items if any(item.iter_markers("engine")) or any(item.iter_markers("archive"))]
    if config.getoption("--quick"):
        config.hook.pytest_deselected(items=slow)
        left_out = set(slow)
        items[:] = [item for item in items if item not in left_out]
    if config.getoption("--suite") != defaults.SUITE:
        # What uses none of its images was held to the default suite already.
        same = [item for item in items if not (ENGINE | ARCHIVE) & set(getattr(item, "fixturenames", ()))]
        config.hook.pytest_deselected(items=same)
        items[:] = [item for item in items if item not in same]
    if not config.getoption("--full"):
        for item in items:
            if item.get_closest_marker("full"):
                item.add_marker(pytest.mark.skip(reason="takes long: it runs with --full"))
    much = {item.path for item in slow}
    items.sort(key=lambda item: (place(item.nodeid.partition("::")[0]), item.path not in much))


def pytest_collection_finish() -> None:
    """Spare the garbage collector what lives to the end: thousands of tests with all that they import."""
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling | None:
    return Scheduling(config, log) if config.getoption("--dist") == "loadfile" else None


@pytest.fixture(scope="session")
def project() -> Project:
    """Give this checkout with the user's own state and cache: what is built is not built again."""
    return Project.here()


@pytest.fixture(scope="session")
def progress() -> Progress:
    return Progress()


@pytest.fixture(scope="session")
def suite(pytestconfig: pytest.Config) -> str:
    """Give the name of the Debian suite whose images are tested."""
    return str(pytestconfig.getoption("--suite"))


@pytest.fixture(scope="session")
def dind(project: Project, progress: Progress, suite: str) -> Built:
    return build_image(project, "dind", suite, progress)


@pytest.fixture(scope="session")
def base(project: Project, progress: Progress, suite: str) -> Built:
    return build_image(project, "base", suite, progress)


@pytest.fixture(scope="session")
def engine(project: Project, progress: Progress, dind: Built, base: Built, suite: str) -> Iterator[Engine]:
    """Give an engine with both images: the one that answers, or the image itself, stopped at the end."""
    plant(project, suite)
    with running_engine(project, progress, dind) as found:
        load.load(found, dind, progress)
        load.load(found, base, progress)
        yield found
