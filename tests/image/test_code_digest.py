"""The digest of the programs moves when the result could, and seldom otherwise."""

from __future__ import annotations

import ast
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dindkit.errors import DindkitError
from dindkit.image import assemble, code_digest, state_keys
from dindkit.project import Project
from tests.support.local_project import LocalProject, publish_greeter

PACKAGE = Path(code_digest.__file__).parents[1]


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a copy of this package's sources, which the digest is then made of."""
    folder = tmp_path / "dindkit"
    shutil.copytree(PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code_digest, "PACKAGE", folder)
    return folder


@pytest.fixture
def own(tmp_path: Path) -> Project:
    return replace(Project.here(), state=tmp_path / "state")


def both(own: Project) -> tuple[str, str]:
    """Return both digests as a new process finds them."""
    code_digest._sources.cache_clear()
    return code_digest.digest(own, state_keys.PACKAGES_MODULE), code_digest.digest(
        own, state_keys.IMAGE_MODULE
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
    copy: Path, own: Project, file: str, before: str, after: str, packages: bool, image: bool
) -> None:
    first = both(own)
    edit(copy / file, before, after)
    second = both(own)
    assert [one != other for one, other in zip(first, second, strict=True)] == [packages, image]
    shutil.rmtree(own.state)
    assert both(own) == second


def test_code_that_changes_meanwhile(copy: Path, own: Project) -> None:
    """The sandbox's worker is a process of its own: what it runs is what lies there then."""
    both(own)
    code_digest.require_unchanged(state_keys.IMAGE_MODULE)
    edit(copy / "tools/doctor.py", "return", "pass\n    return")
    edit(copy / "formats/layer.py", "#: The media types", "#: Media types")
    code_digest.require_unchanged(state_keys.IMAGE_MODULE)
    edit(copy / "image/own_files.py", "0o644", "0o600")
    code_digest.require_unchanged(state_keys.PACKAGES_MODULE)
    with pytest.raises(DindkitError, match=r"changed while it ran: .*dindkit\.image\.own_files"):
        code_digest.require_unchanged(state_keys.IMAGE_MODULE)
    edit(copy / "image/own_files.py", "0o600", "0o644")
    (copy / "sandbox/worker.py").unlink()
    with pytest.raises(DindkitError, match=r"changed while it ran: .*dindkit\.sandbox\.worker"):
        code_digest.require_unchanged(state_keys.PACKAGES_MODULE)


def test_nothing_is_kept_of_a_build_whose_code_changes_meanwhile(
    copy: Path, local_project: LocalProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_greeter(local_project, "6.1")
    local_project.lock()
    code_digest._sources.cache_clear()
    right, worker = assemble.prepare, copy / "sandbox/worker.py"
    before = worker.read_text()

    def wrong(*arguments: Any) -> None:
        edit(worker, "0o022", "0o002")
        right(*arguments)

    monkeypatch.setattr(assemble, "prepare", wrong)
    with pytest.raises(DindkitError, match=r"changed while it ran: dindkit\.sandbox\.worker\. Run the"):
        local_project.build()
    worker.write_text(before)
    monkeypatch.setattr(assemble, "prepare", right)
    kept = set((local_project.project.state / "packages").glob("app-*/layer.json"))
    local_project.build()
    assert set((local_project.project.state / "packages").glob("app-*/layer.json")) - kept


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
