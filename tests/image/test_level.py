"""`--level`: other bytes for the same image, and one fixed level where none is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from dindkit.errors import DindkitError
from dindkit.formats.image_archive import open_archive
from dindkit.formats.layer import LEVEL
from dindkit.image.build import BuildOptions, build_and_write
from dindkit.image.output import Output
from dindkit.progress import Progress
from dindkit.project import Project
from dindkit.registry.push import push
from tests.support.local_project import LocalProject

APP = BuildOptions(image="app")


def write(made: LocalProject, output: Output | None, level: int | None) -> None:
    build_and_write(made.project, APP, Progress(made.said), output, level=level)


def test_the_level_moves_the_archive_and_not_the_image(
    shared_small_project: LocalProject, tmp_path: Path
) -> None:
    def archive(level: int | None) -> tuple[bytes, str]:
        target = tmp_path / f"{level}.tar"
        write(shared_small_project, Output(target), level)
        with open_archive(target) as found:
            return target.read_bytes(), found.image.image_id

    fast, image_id = archive(1)
    fixed, same_id = archive(None)
    assert same_id == image_id
    assert fixed != fast  # and not what the level before has left in the store
    assert archive(LEVEL)[0] == fixed
    assert archive(1)[0] == fast


def test_what_is_no_level_or_is_for_nothing(shared_small_project: LocalProject, tmp_path: Path) -> None:
    target = tmp_path / "app.tar"
    for level in (0, -5, 20):
        with pytest.raises(DindkitError, match=rf"cannot be compressed with level {level}\."):
            write(shared_small_project, Output(target), level)
    with pytest.raises(DindkitError, match="--level is for an archive"):
        write(shared_small_project, None, 3)
    assert not target.exists()


def test_a_push_with_what_is_no_level_builds_nothing(tmp_path: Path) -> None:
    nowhere = Project(tmp_path, tmp_path, tmp_path)
    with pytest.raises(DindkitError, match="cannot be compressed with level 23"):
        push(nowhere, APP, "localhost/dindkit/app", Progress(quiet=True), level=23)
    with pytest.raises(DindkitError, match="--level is for zstd"):
        push(nowhere, APP, "localhost/dindkit/app", Progress(quiet=True), compression="gzip", level=3)
