"""The digest of the programs moves when the result could, and seldom otherwise."""

from __future__ import annotations

import ast
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from dindkit.image import code_digest, state_keys
from dindkit.project import Project

PACKAGE = Path(code_digest.__file__).parents[1]


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a copy of this package's sources, which the digest is then made of."""
    folder = tmp_path / "dindkit"
    shutil.copytree(PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code_digest, "PACKAGE", folder)
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return replace(Project.here(), state=tmp_path / "state")


def both(project: Project) -> tuple[str, str]:
    """Return both digests as a new process finds them."""
    code_digest._sources.cache_clear()
    return code_digest.digest(project, state_keys.PACKAGES_MODULE), code_digest.digest(
        project, state_keys.IMAGE_MODULE
    )


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))


@pytest.mark.parametrize(
    ("file", "before", "after", "packages", "image"),
    [
        ("formats/layer.py", "WINDOW_LOG = 27", "WINDOW_LOG = 26", True, True),
        ("formats/folder.py", "KEPT = 16", "KEPT = 15", True, True),
        ("sandbox/worker.py", "0o022", "0o002", True, True),
        ("sandbox/container.py", '"0:0"', '"1:1"', True, True),
        ("packages/index.py", "return", "pass\n    return", True, True),
        ("__init__.py", "", "import os\n", True, True),
        ("image/image_config.py", '"os": "linux"', '"os": "plan9"', False, True),
        ("image/own_files.py", "0o644", "0o600", False, True),
        ("formats/layer.py", "#: The media types", "#: Media types", False, False),
        ("image/assemble.py", '"""From packages to a tree', '"""To a tree', False, False),
        ("image/assemble.py", "\nclass Rules", "\n\n\n# Rules.\nclass Rules", False, False),
        ("tools/doctor.py", "return", "pass\n    return", False, False),
        ("embedded/lifecycle.py", "START = 90.0", "START = 91.0", False, False),
        ("image/locking.py", "return", "pass\n    return", False, False),
    ],
)
def test_what_moves_it(
    copy: Path, project: Project, file: str, before: str, after: str, packages: bool, image: bool
) -> None:
    first = both(project)
    edit(copy / file, before, after)
    second = both(project)
    assert [one != other for one, other in zip(first, second, strict=True)] == [packages, image]
    shutil.rmtree(project.state)
    assert both(project) == second


def test_modules_are_named_by_import_statements_alone() -> None:
    """What the digest relies on: no module of assembly is found in another way."""
    for entry in (state_keys.PACKAGES_MODULE, state_keys.IMAGE_MODULE):
        sources = code_digest._sources(PACKAGE)
        found = code_digest.modules(sources, entry)
        assert {"dindkit.sandbox.worker", "dindkit.formats.deb", "dindkit.packages.version"} <= set(found)
        for name in found:
            for node in ast.walk(ast.parse(sources[name])):
                assert not (isinstance(node, ast.ImportFrom) and node.level), name
                words = {node.id} if isinstance(node, ast.Name) else set()
                words |= {node.module or ""} if isinstance(node, ast.ImportFrom) else set()
                words |= {one.name for one in node.names} if isinstance(node, ast.Import) else set()
                assert not words & {"importlib", "__import__", "exec", "eval", "runpy"}, name
