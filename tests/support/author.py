"""Somebody with recipes in a folder of their own, beside an installed dindkit."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dindkit.image import locking, seal
from dindkit.image.build import Built, build
from dindkit.image.build_options import BuildOptions
from dindkit.progress import Progress
from dindkit.project import Project
from tests.support.archive import KeyRing
from tests.support.local_project import LocalProject
from tests.support.tiny_project import tiny_project


@dataclass
class Author:
    """Somebody with a folder of their own, beside an installed dindkit."""

    tiny: LocalProject
    folder: Path
    said: io.StringIO

    @property
    def project(self) -> Project:
        return self.tiny.project

    def write(self, name: str, text: str, **files: str) -> str:
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "image.toml").write_text(text)
        for path, content in files.items():
            file = folder / path.replace("__", "/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
        return str(folder)

    def lock(self, image: str) -> None:
        locking.lock(self.project, BuildOptions(image), Progress(self.said))

    def seal(self, image: str) -> None:
        seal.seal(self.project, BuildOptions(image), Progress(self.said))

    def build(self, image: str, **words: Any) -> Built:
        return build(self.project, BuildOptions(image, **words), Progress(self.said))

    def locks(self) -> list[str]:
        return sorted(path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*.lock"))


#: A recipe over `base`, and the name of its lock.
RUNNER = 'parent = "base"\npackages = ["tool"]\n'
TARGET = BuildOptions().target
LOCK = f"trixie-{TARGET}.lock"


@pytest.fixture(scope="module")
def tiny(key_ring: KeyRing, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalProject]:
    with tiny_project(tmp_path_factory.mktemp("tiny"), key_ring) as made:
        made.archive.add_deb("tool", "1.0", files={"usr/bin/tool": "#!/bin/sh\necho tool\n"})
        made.publish()
        yield made


@pytest.fixture
def author(tiny: LocalProject, tmp_path: Path) -> Author:
    (tmp_path / "a folder").mkdir()
    return Author(tiny, tmp_path / "a folder", io.StringIO())
