"""`invoke lock` from InRelease to rows, on an archive of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from dindkit.errors import RecipeError, TrustError
from dindkit.packages import make_lock
from dindkit.packages.lock import Lock
from dindkit.packages.solver import Request
from tests.packages.conftest import Place
from tests.support.archive import ArchiveBuilder, KeyRing, Pin, make_project, serve


def test_lock_lists_closure_with_reasons(place: Place) -> None:
    place.archive.add_deb("base-thing", fields={"Essential": "yes"})
    place.archive.add_deb("app", "2:1.0-1", architecture="amd64", depends="lib (>= 1), helper | other")
    place.archive.add_deb("lib", "1.2")
    place.archive.add_deb("helper")
    place.archive.add_deb("unrelated")
    place.archive.publish("trixie", date=1_700_000_000)
    lock = place.lock("app")
    assert {row.name: row.why for row in lock.rows} == {
        "app": "requested",
        "base-thing": "essential",
        "helper": "app",
        "lib": "app",
    }
    assert lock.epoch == 1_700_000_000
    (origin,) = lock.archives
    assert origin.signer == place.archive.signers[0]
    files = place.store.fetch(lock.rows, place.keys, place.progress, lock.snapshots)
    assert {row.name for row in files} == {row.name for row in lock.rows}


def test_unknown_package_is_named(place: Place) -> None:
    place.archive.publish("trixie")
    with pytest.raises(RecipeError, match="no package nonesuch"):
        place.lock("nonesuch")


def test_virtual_package_is_refused_with_a_hint(place: Place) -> None:
    place.archive.add_deb("postfix", fields={"Provides": "mail"})
    place.archive.publish("trixie")
    with pytest.raises(RecipeError, match=r"no package mail .* virtual package; name one of postfix"):
        place.lock("mail")


def test_unmet_dependency_is_named(place: Place) -> None:
    place.archive.add_deb("app", depends="lib")
    place.archive.add_deb("lib", depends="deep (>= 2) | other")
    place.archive.add_deb("deep", "1")
    place.archive.publish("trixie")
    with pytest.raises(RecipeError, match=r"lib 1\.0 needs deep \(>= 2\) \| other, which no archive offers"):
        place.lock("app")


@pytest.mark.parametrize("order", [1, -1])
def test_a_replay_is_told_by_the_latest_of_several_locks(place: Place, order: int) -> None:
    place.archive.add_deb("app")
    place.archive.publish("trixie", date=1_700_000_000)
    earlier = place.lock("app").archives
    place.archive.publish("trixie", date=1_700_000_200)
    latest = place.lock("app").archives
    place.archive.publish("trixie", date=1_700_000_100)
    since = [*earlier, *latest][::order]
    with pytest.raises(TrustError, match="older"):
        make_lock.survey(place.keys, place.store, "trixie", "amd64", place.progress, since=since)


def test_unknown_suite(place: Place) -> None:
    with pytest.raises(RecipeError, match="no archive that serves the suite sid"):
        make_lock.survey(place.keys, place.store, "sid", "amd64", place.progress)


def test_downgrade_is_refused_unless_allowed(place: Place) -> None:
    place.archive.add_deb("app", "2.0")
    place.archive.add_deb("other", "1.0")
    place.archive.publish("trixie", date=1_700_000_000)
    old = place.lock("app", "other")
    place.archive.stanzas.clear()
    place.archive.add_deb("app", "1.0")
    place.archive.add_deb("other", "1.1")
    place.archive.publish("trixie", date=1_700_000_100)
    with pytest.raises(TrustError, match=r"downgraded app 2\.0 -> 1\.0.*--allow-downgrade"):
        place.lock("app", "other", old=old)
    assert place.lock("app", "other", old=old, allow_downgrade=True).rows[0].version == "1.0"


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("SHA256", None, "no usable 'SHA256' of app"),
        ("Size", "many", "no usable .*of app"),
        ("Filename", "../../etc/passwd", "leads out of the archive"),
        ("SHA256", "abc", "the sha256 of app is malformed"),
    ],
)
def test_index_that_cannot_be_right(place: Place, field: str, value: str | None, complaint: str) -> None:
    place.archive.add_deb("app")
    stanza = place.archive.stanzas[0]
    if value is None:
        del stanza[field]
    else:
        stanza[field] = value
    place.archive.publish("trixie")
    with pytest.raises(TrustError, match=complaint):
        place.lock("app")


def test_child_adds_to_its_parent(place: Place) -> None:
    place.archive.add_deb("core", fields={"Essential": "yes"})
    place.archive.add_deb("lib")
    place.archive.add_deb("app", depends="lib, core, helper")
    place.archive.add_deb("helper")
    place.archive.publish("trixie")
    found = place.survey()
    parent = make_lock.make(found, [Request("lib")], image="base")
    child = make_lock.make(found, [Request("app"), Request("lib")], image="child", parent_rows=parent.rows)
    assert [row.name for row in parent.rows] == ["core", "lib"]
    assert [(row.name, row.why) for row in child.rows] == [("app", "requested"), ("helper", "app")]


def test_parent_of_another_time_is_refused(place: Place) -> None:
    place.archive.add_deb("lib")
    place.archive.publish("trixie")
    found = place.survey()
    parent = make_lock.make(found, [Request("lib")], image="base")
    moved = [replace(row, sha256="0" * 64) for row in parent.rows]
    with pytest.raises(RecipeError, match=r"The parent's lock has lib 1\.0.*Lock the parent first"):
        make_lock.make(found, [Request("lib")], image="child", parent_rows=moved)


def test_epoch_and_snapshot_time_follow_the_latest_release(place: Place, tmp_path: Path) -> None:
    place.archive.publish("trixie", date=1_700_000_000)
    place.archive.publish("trixie-updates", date=1_700_086_400)
    pin = Pin(
        "debian",
        place.archive,
        place.server.url,
        suites={"trixie": ["trixie", "trixie-updates"]},
        snapshot="http://127.0.0.1:1/{time}",
    )
    place.project = make_project(tmp_path / "both", pin)
    lock = place.lock()
    assert lock.epoch == 1_700_086_400
    # Twelve hours after 2023-11-15T22:13:20Z, for both.
    assert {origin.suite: origin.snapshot for origin in lock.archives} == {
        "trixie": "20231116T101320Z",
        "trixie-updates": "20231116T101320Z",
    }


@dataclass
class Two:
    """Debian's archive and, only on request, Docker's; both offer `shared`, and Docker's a later version."""

    debian: ArchiveBuilder
    docker: ArchiveBuilder
    place: Place

    def lock(self, *requests: Request, engine: str = "docker-ce") -> Lock:
        self.debian.publish("trixie")
        self.docker.publish("trixie", component="stable")
        place = self.place
        found = make_lock.survey(
            place.keys, place.store, "trixie", "amd64", place.progress, archives=["docker"]
        )
        return make_lock.make(found, requests, image="dind", engine=engine)

    def origins(self, lock: Lock) -> dict[str, str]:
        return {row.name: row.archive for row in lock.rows}


@pytest.fixture
def two(place: Place, tmp_path: Path, ring: KeyRing) -> Iterator[Two]:
    docker = ArchiveBuilder(tmp_path / "docker", ring, ring.make("Docker"))
    place.archive.add_deb("iptables")
    place.archive.add_deb("shared", "1.0")
    place.archive.add_deb("user", depends="shared")
    place.archive.add_deb("dreamer", depends="docker-ce")
    docker.add_deb("docker-ce", "5:1.0", depends="containerd.io, iptables")
    docker.add_deb("containerd.io")
    docker.add_deb("iptables", "9.0")
    docker.add_deb("shared", "9.0")
    with serve(docker.folder) as server:
        place.project = make_project(
            tmp_path / "two",
            Pin("debian", place.archive, place.server.url),
            Pin("docker", docker, server.url, components=["stable"], on_request=True),
        )
        yield Two(place.archive, docker, place)


def test_archives_do_not_mix(two: Two) -> None:
    lock = two.lock(Request("docker-ce", "docker"), Request("user"))
    assert two.origins(lock) == {
        "docker-ce": "docker",
        "containerd.io": "docker",
        "iptables": "debian",
        "shared": "debian",
        "user": "debian",
    }
    assert {origin.archive for origin in lock.archives} == {"debian", "docker"}


def test_package_of_both_comes_from_the_archive_asked_for(two: Two) -> None:
    lock = two.lock(Request("user"), Request("shared", "docker"))
    assert two.origins(lock) == {"shared": "docker", "user": "debian"}


def test_archive_that_nobody_asked_for_is_not_used(two: Two) -> None:
    lock = two.lock(Request("user"), engine="docker.io")
    assert two.origins(lock) == {"shared": "debian", "user": "debian"}
    assert {origin.archive for origin in lock.archives} == {"debian"}
    with pytest.raises(RecipeError, match="no package docker-ce"):
        two.lock(Request("docker-ce"))


def test_debian_package_does_not_draw_from_an_archive_on_request(two: Two) -> None:
    with pytest.raises(RecipeError, match=r"dreamer .*needs docker-ce, which no archive offers"):
        two.lock(Request("dreamer"), Request("containerd.io", "docker"))
