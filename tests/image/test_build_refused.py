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


def test_the_lock_of_another_image_is_refused(local_project: LocalProject) -> None:
    lock_file(local_project).write_bytes(lock_file(local_project, "base").read_bytes())
    with pytest.raises(RecipeError, match=r"is the lock of base for trixie.*Restore it with git"):
        local_project.build()


def test_a_gone_file_fails_a_frozen_build_and_heals_another(local_project: LocalProject) -> None:
    old = lock_file(local_project).read_bytes()
    publish_greeter(local_project, "1.0+gone")
    local_project.lock()
    locked = lock_file(local_project).read_bytes()
    (row,) = locks.read(lock_file(local_project)).rows
    (local_project.archive.folder / row.path).unlink()
    publish_greeter(local_project, "2.0", files={"usr/bin/greet": "new"})
    with pytest.raises(GoneError, match=r"greeter 1\.0\+gone"):
        local_project.build(frozen=True)
    with pytest.raises(GoneError):  # an image that is solved anew has other ids than this lock
        seal.seal(local_project.project, BuildOptions(image="app"), Progress(local_project.said))
    solved = local_project.build()
    assert not solved.from_lock
    assert "1.0+gone -> 2.0" in local_project.said.getvalue()
    assert lock_file(local_project).read_bytes() == locked != old
    with open_archive(solved.archive) as archive:
        assert archive.image.config["config"]["Labels"]["dindkit.from-lock"] == "false"


@pytest.mark.parametrize(
    ("name", "said"),
    [("./../escaped", "greeter.*leads outside"), ("/etc/owned", "greeter.*leads outside")],
)
def test_a_package_that_climbs_out_is_refused(local_project: LocalProject, name: str, said: str) -> None:
    local_project.archive.stanzas[:] = [
        one for one in local_project.archive.stanzas if one["Package"] != "greeter"
    ]
    local_project.archive.add_deb("greeter", "3.0", members=[(tarfile.TarInfo(name), b"")])
    local_project.publish()
    local_project.lock()
    before = local_project.images()
    with pytest.raises(DebError, match=said):
        local_project.build()
    assert local_project.images() == before


def test_a_package_that_is_not_what_its_index_says_is_refused(local_project: LocalProject) -> None:
    local_project.archive.stanzas[:] = [
        one for one in local_project.archive.stanzas if one["Package"] != "greeter"
    ]
    local_project.archive.add_deb("greeter", "3.1", inside={"Version": "3.2"})
    local_project.publish()
    local_project.lock()
    with pytest.raises(DebError, match=r"its Version is 3\.2, the lock says 3\.1"):
        local_project.build()


def test_a_path_through_a_link_of_base_is_refused(local_project: LocalProject) -> None:
    publish_greeter(local_project, "3.3", files={"var/run/x": "x"})  # base's /var/run is a link to /run
    local_project.lock()
    with pytest.raises(DebError, match=r"var/run/x leads through the link var/run"):
        local_project.build()


def test_a_failing_maintainer_script_is_quoted(local_project: LocalProject) -> None:
    publish_greeter(
        local_project, "3.4", scripts={"postinst": "#!/bin/sh\necho the moon is full >&2\nexit 1\n"}
    )
    local_project.lock()
    before = local_project.images()
    with pytest.raises(SandboxError, match=r"maintainer script failed.*greeter"):
        local_project.build()
    assert local_project.images() == before


def test_a_lock_without_a_row_that_is_needed(local_project: LocalProject) -> None:
    local_project.archive.stanzas[:] = [
        one for one in local_project.archive.stanzas if one["Package"] != "greeter"
    ]
    local_project.archive.add_deb("greeter", "4.0", depends="helper")
    local_project.archive.add_deb("helper", "1.0")
    local_project.publish()
    local_project.lock()
    lock = locks.read(lock_file(local_project))
    assert [row.name for row in lock.rows] == ["greeter", "helper"]
    locks.write(replace(lock, rows=lock.rows[:1]), lock_file(local_project))
    with pytest.raises(RecipeError, match="greeter needs helper"):
        local_project.build()


def test_a_lock_over_another_parent(local_project: LocalProject) -> None:
    base = locks.read(lock_file(local_project, "base"))
    locks.write(replace(base, epoch=base.epoch + 1), lock_file(local_project, "base"))
    with pytest.raises(RecipeError, match="made over another lock of base"):
        local_project.build()
