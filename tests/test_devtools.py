"""What tests and linters need is installed once, also where `lint` runs beside `test`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dindkit import devtools, process
from dindkit.progress import Progress
from dindkit.project import Project


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Take the place of pip and apt-get, which take a while, in an environment with nothing in it."""
    found: list[str] = []

    def run(words: list[str | Path], **_options: object) -> None:
        found.append(" ".join(map(str, words)))
        time.sleep(0.2)
        if "apt-get install" in found[-1]:
            (tmp_path / "new").touch(0o755)

    monkeypatch.setattr(process, "run", run)
    monkeypatch.setattr(process, "PACKAGE_OF", {"new": "some-package"})
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    return found


def twice(install: Callable[[], None]) -> None:
    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(install) for _ in range(2)]:
            done.result()


def test_python_packages(ran: list[str]) -> None:
    project = Project.here()
    twice(lambda: devtools.install_pins(project, Progress(quiet=True)))
    assert len(ran) == 1
    assert "pip" in ran[0]


def test_debian_packages(ran: list[str]) -> None:
    twice(lambda: devtools.install_tools(["new"], Progress(quiet=True)))
    assert ran == ["apt-get update", "apt-get install --yes --no-install-recommends some-package"]
