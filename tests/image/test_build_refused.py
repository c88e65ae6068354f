"""Builds from a real archive on loopback that are refused, or heal: locks, packages, maintainer scripts."""

from __future__ import annotations

import tarfile
from dataclasses import replace

import pytest

from dindkit.errors import RecipeError
from dindkit.formats.deb import DebError
from dindkit.formats.image_archive import open_archive
from dindkit.image import seal
from dindkit.image.build import BuildOptions
from dindkit.packages import lock as locks
from dindkit.packages.download_cache import GoneError
from dindkit.progress import Progress
from dindkit.sandbox.interface import SandboxError
from tests.support.local_project import LocalProject, lock_file, publish_greeter


def test_the_lock_of_another_image_is_refused(small_project: LocalProject) -> None:
    lock_file(small_project).write_bytes(lock_file(small_project, "base").read_bytes())
    with pytest.raises(RecipeError, match=r"is the lock of base for trixie.*Restore it with git"):
        small_project.build()


def test_a_gone_file_fails_a_frozen_build_and_heals_another(small_project: LocalProject) -> None:
    old = lock_file(small_project).read_bytes()
    publish_greeter(small_project, "1.0+gone")
    small_project.lock()
    locked = lock_file(small_project).read_bytes()
    (row,) = locks.read(lock_file(small_project)).rows
    (small_project.archive.folder / row.path).unlink()
    publish_greeter(small_project, "2.0", files={"usr/bin/greet": "new"})
    with pytest.raises(GoneError, match=r"greeter 1\.0\+gone"):
        small_project.build(frozen=True)
    with pytest.raises(GoneError):  # an image that is solved anew has other ids than this lock
        seal.seal(small_project.project, BuildOptions(image="app"), Progress(small_project.said))
    solved = small_project.build()
    assert not solved.from_lock
    assert "1.0+gone -> 2.0" in small_project.said.getvalue()
    assert lock_file(small_project).read_bytes() == locked != old
    with open_archive(solved.archive) as archive:
        assert archive.image.config["config"]["Labels"]["dindkit.from-lock"] == "false"


@pytest.mark.parametrize(
    ("name", "said"),
    [("./../escaped", "greeter.*leads outside"), ("/etc/owned", "greeter.*leads outside")],
)
def test_a_package_that_climbs_out_is_refused(small_project: LocalProject, name: str, said: str) -> None:
    small_project.archive.stanzas[:] = [
        one for one in small_project.archive.stanzas if one["Package"] != "greeter"
    ]
    small_project.archive.add_deb("greeter", "3.0", members=[(tarfile.TarInfo(name), b"")])
    small_project.publish()
    small_project.lock()
    before = small_project.images()
    with pytest.raises(DebError, match=said):
        small_project.build()
    assert small_project.images() == before


def test_a_package_that_is_not_what_its_index_says_is_refused(small_project: LocalProject) -> None:
    small_project.archive.stanzas[:] = [
        one for one in small_project.archive.stanzas if one["Package"] != "greeter"
    ]
    small_project.archive.add_deb("greeter", "3.1", inside={"Version": "3.2"})
    small_project.publish()
    small_project.lock()
    with pytest.raises(DebError, match=r"its Version is 3\.2, the lock says 3\.1"):
        small_project.build()


def test_a_path_through_a_link_of_base_is_refused(local_project: LocalProject) -> None:
    publish_greeter(local_project, "3.3", files={"var/run/x": "x"})  # base's /var/run is a link to /run
    local_project.lock()
    with pytest.raises(DebError, match=r"var/run/x leads through the link var/run"):
        local_project.build()


def test_a_failing_maintainer_script_is_quoted(small_project: LocalProject) -> None:
    publish_greeter(
        small_project, "3.4", scripts={"postinst": "#!/bin/sh\necho the moon is full >&2\nexit 1\n"}
    )
    small_project.lock()
    before = small_project.images()
    with pytest.raises(SandboxError, match=r"maintainer script failed.*greeter"):
        small_project.build()
    assert small_project.images() == before


def test_a_lock_without_a_row_that_is_needed(small_project: LocalProject) -> None:
    small_project.archive.stanzas[:] = [
        one for one in small_project.archive.stanzas if one["Package"] != "greeter"
    ]
    small_project.archive.add_deb("greeter", "4.0", depends="helper")
    small_project.archive.add_deb("helper", "1.0")
    small_project.publish()
    small_project.lock()
    lock = locks.read(lock_file(small_project))
    assert [row.name for row in lock.rows] == ["greeter", "helper"]
    locks.write(replace(lock, rows=lock.rows[:1]), lock_file(small_project))
    with pytest.raises(RecipeError, match="greeter needs helper"):
        small_project.build()


def test_a_lock_over_another_parent(small_project: LocalProject) -> None:
    base = locks.read(lock_file(small_project, "base"))
    locks.write(replace(base, epoch=base.epoch + 1), lock_file(small_project, "base"))
    with pytest.raises(RecipeError, match="made over another lock of base"):
        small_project.build()
