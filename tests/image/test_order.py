"""Which engine `auto` takes, and that it says so; on small stand-ins for both archives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path

import pytest

from dindkit.errors import DindkitError, RecipeError
from dindkit.image import locking, rebuild
from dindkit.image.order import Order, resolve
from dindkit.packages import lock as locks
from dindkit.packages.lock import Expected
from dindkit.progress import Progress
from dindkit.project import Project
from tests.support.archive import ArchiveBuilder, KeyRing, Pin, Server, make_project, serve

BASE = 'title = "base"\nessential = true\n'
DIND = """
title = "dind"
parent = "base"
[engines."docker.io"]
packages = ["docker.io"]
[engines.docker-ce]
packages = ["docker-ce"]
archive = "docker"
"""


@dataclass
class Place:
    """A project with an archive of Debian's kind and one of Docker's kind."""

    project: Project
    archives: dict[str, ArchiveBuilder]
    docker: Server
    said: StringIO

    def take(self, engine: str = "auto", frozen: bool = False) -> str:
        """Resolve an order, and return the engine that was taken."""
        order = Order(engine=engine, architecture="amd64", frozen=frozen)
        return resolve(self.project, order)[-1].choice

    def lock(self, engine: str) -> None:
        locking.lock(self.project, Order(engine=engine, architecture="amd64"), Progress(self.said))

    def cut_off(self) -> None:
        """Let Docker's archive be unreachable."""
        self.docker.faults.gone.add("/dists/trixie/InRelease")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    ring = KeyRing()
    archives = {name: ArchiveBuilder(tmp_path / name, ring, ring.make()) for name in ("debian", "docker")}
    archives["debian"].add_deb("base-files", fields={"Essential": "yes"})
    archives["debian"].add_deb("docker.io")
    archives["docker"].add_deb("docker-ce")
    for archive in archives.values():
        archive.publish("trixie")
    with serve(archives["debian"].folder) as debian, serve(archives["docker"].folder) as docker:
        pins = [
            Pin("debian", archives["debian"], debian.url),
            Pin("docker", archives["docker"], docker.url, on_request=True),
        ]
        project = make_project(tmp_path / "project", *pins)
        for name, text in (("base", BASE), ("dind", DIND)):
            (project.images / name).mkdir(parents=True)
            (project.images / name / "image.toml").write_text(text)
        yield Place(project, archives, docker, StringIO())
    ring.close()


def test_a_committed_lock_decides_and_nobody_is_asked(place: Place) -> None:
    place.lock("docker-ce")
    place.lock("docker.io")
    place.docker.requests.clear()
    assert place.take() == "docker-ce"
    assert place.docker.requests == []


def test_where_dockers_archive_answers_a_lock_is_made(place: Place) -> None:
    place.lock("docker.io")
    assert place.take() == "docker-ce"
    assert (place.project.images / "dind/trixie-amd64-docker-ce.lock").is_file()
    assert "docker-ce" in place.said.getvalue()


def publish_new_base(place: Place) -> None:
    place.archives["debian"].add_deb("added", fields={"Essential": "yes"})
    place.archives["debian"].publish("trixie")


def test_making_that_lock_leaves_the_others_whole(place: Place) -> None:
    place.lock("docker.io")
    before = (place.project.images / "base/trixie-amd64.lock").read_bytes()
    publish_new_base(place)
    assert place.take() == "docker-ce"
    assert (place.project.images / "base/trixie-amd64.lock").read_bytes() == before
    assert place.take("docker.io") == "docker.io"


def test_where_base_has_left_the_archive_it_is_docker_io_in_plain_words(place: Place) -> None:
    place.lock("docker.io")
    debian = place.archives["debian"]
    debian.stanzas = [stanza for stanza in debian.stanzas if stanza["Package"] != "base-files"]
    debian.add_deb("base-files", "2.0", fields={"Essential": "yes"})
    debian.publish("trixie")
    assert place.take() == "docker.io"
    asked = len(place.docker.requests)
    assert place.take() == "docker.io"
    assert "Packages" not in str(place.docker.requests[asked:])  # it is remembered that no lock can be made
    said = "engine: docker.io instead of docker-ce: The parent's lock has base-files"
    assert place.said.getvalue().count(said) == 2
    assert "invoke lock --engine docker-ce" in place.said.getvalue()
    assert not (place.project.images / "dind/trixie-amd64-docker-ce.lock").exists()


def test_one_lock_moves_all_that_stand_over_the_same_base(place: Place) -> None:
    for engine in ("docker-ce", "docker.io"):
        place.lock(engine)
        path = place.project.images / f"dind/trixie-amd64-{engine}.lock"
        locks.write(replace(locks.read(path), expected=Expected("sha256:" + "0" * 64, ())), path)
    publish_new_base(place)
    place.lock("docker.io")
    assert place.take("docker-ce") == "docker-ce"
    assert place.take("docker.io") == "docker.io"
    for engine in ("docker-ce", "docker.io"):
        assert locks.read(place.project.images / f"dind/trixie-amd64-{engine}.lock").expected is None


def test_a_lock_whose_archive_is_away_is_left_and_named(place: Place) -> None:
    place.lock("docker-ce")
    place.lock("docker.io")
    publish_new_base(place)
    place.cut_off()
    place.lock("docker.io")
    assert "trixie-amd64-docker-ce.lock of dind stands over the earlier lock" in place.said.getvalue()
    assert place.take("docker.io") == "docker.io"
    with pytest.raises(RecipeError, match="made over another lock of base"):
        place.take("docker-ce")


def test_where_it_does_not_answer_it_is_docker_io_in_plain_words(place: Place) -> None:
    place.lock("docker.io")
    place.cut_off()
    assert place.take() == "docker.io"
    assert "engine: docker.io instead of docker-ce" in place.said.getvalue()
    assert "cannot be reached" in place.said.getvalue()


def test_frozen_asks_nobody(place: Place) -> None:
    place.lock("docker.io")
    place.docker.requests.clear()
    assert place.take(frozen=True) == "docker.io"
    assert place.docker.requests == []


def test_a_lock_that_auto_made_is_not_what_maintainers_have_sealed(place: Place) -> None:
    place.lock("docker.io")
    path = place.project.images / "dind/trixie-amd64-docker.io.lock"
    locks.write(replace(locks.read(path), expected=Expected("sha256:" + "0" * 64, ())), path)
    assert place.take() == "docker-ce"
    assert place.take() == "docker-ce"
    assert place.take(frozen=True) == "docker.io"
    assert "docker.io instead of docker-ce: no lock is committed for it with its ids" in place.said.getvalue()


def test_verify_writes_no_lock(place: Place) -> None:
    place.lock("docker.io")
    before = sorted(place.project.images.rglob("*"))
    with pytest.raises(DindkitError):  # what is in these archives is no Debian
        rebuild.rebuild(place.project, Order(architecture="amd64"), Progress(place.said))
    assert sorted(place.project.images.rglob("*")) == before


def test_an_explicit_choice_never_falls_back(place: Place) -> None:
    place.lock("docker.io")
    place.cut_off()
    with pytest.raises(RecipeError, match="no lock"):
        place.take("docker-ce")
    with pytest.raises(DindkitError, match="InRelease of docker trixie cannot be had"):
        place.lock("docker-ce")
    assert not (place.project.images / "dind/trixie-amd64-docker-ce.lock").exists()


def test_an_archive_that_answers_with_a_wrong_key_is_no_reason_to_fall_back(place: Place) -> None:
    place.lock("docker.io")
    file = place.project.keys / "docker.asc"
    file.write_bytes(place.archives["docker"].ring.public(place.archives["debian"].signers[0]))
    with pytest.raises(DindkitError, match="is pinned for it"):
        place.take()
    left = {path.name for path in (place.project.images / "dind").iterdir()}
    assert left == {"image.toml", "trixie-amd64-docker.io.lock"}
