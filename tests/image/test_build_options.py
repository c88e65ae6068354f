"""Which engine `auto` takes, and which locks `invoke lock` writes; on small stand-ins for both archives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path

import pytest

from dindkit.errors import DindkitError, RecipeError
from dindkit.image import locking, rebuild
from dindkit.image.build_options import BuildOptions, resolve
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
class Checkout:
    """A project with an archive of Debian's kind and one of Docker's kind."""

    project: Project
    archives: dict[str, ArchiveBuilder]
    debian: Server
    docker: Server
    said: StringIO

    def take(self, engine: str = "auto", frozen: bool = False) -> str:
        """Resolve an order, and return the engine that was taken."""
        options = BuildOptions(engine=engine, architecture="amd64", frozen=frozen)
        return resolve(self.project, options)[-1].choice

    def lock(self, engine: str) -> None:
        locking.lock(self.project, BuildOptions(engine=engine, architecture="amd64"), Progress(self.said))

    def cut_off(self) -> None:
        """Let Docker's archive be unreachable."""
        self.docker.faults.gone.add("/dists/trixie/InRelease")


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    key_ring = KeyRing()
    archives = {
        name: ArchiveBuilder(tmp_path / name, key_ring, key_ring.make()) for name in ("debian", "docker")
    }
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
        yield Checkout(project, archives, debian, docker, StringIO())
    key_ring.close()


@pytest.mark.parametrize("frozen", [False, True])
def test_auto_is_docker_ce_where_its_lock_is_committed(checkout: Checkout, frozen: bool) -> None:
    checkout.lock("docker-ce")
    checkout.lock("docker.io")
    assert checkout.take(frozen=frozen) == "docker-ce"


@pytest.mark.parametrize("frozen", [False, True])
def test_auto_is_docker_io_elsewhere_though_dockers_archive_answers(checkout: Checkout, frozen: bool) -> None:
    checkout.lock("docker.io")
    before = sorted(checkout.project.images.rglob("*"))
    assert checkout.take(frozen=frozen) == "docker.io"
    assert sorted(checkout.project.images.rglob("*")) == before


def test_auto_asks_no_network_and_says_nothing(checkout: Checkout) -> None:
    checkout.lock("docker.io")
    checkout.docker.requests.clear()
    checkout.debian.requests.clear()
    checkout.said.truncate(0)
    checkout.take()
    assert checkout.docker.requests == []
    assert checkout.debian.requests == []
    assert checkout.said.getvalue() == ""


def test_where_nothing_is_committed_auto_locks_docker_io(checkout: Checkout) -> None:
    checkout.docker.requests.clear()
    checkout.lock("auto")
    assert checkout.take() == "docker.io"
    assert checkout.docker.requests == []


def test_a_lock_of_docker_ce_is_a_maintainers_act_that_auto_follows(checkout: Checkout) -> None:
    checkout.lock("docker.io")
    checkout.lock("docker-ce")
    assert checkout.take() == "docker-ce"
    checkout.docker.requests.clear()
    publish_new_base(checkout)
    checkout.lock("auto")
    assert checkout.take() == "docker-ce"
    assert checkout.docker.requests


def test_a_lock_whose_archive_has_another_key_is_an_error(checkout: Checkout) -> None:
    checkout.lock("docker.io")
    before = sorted(checkout.project.images.rglob("*"))
    file = checkout.project.keys / "docker.asc"
    file.write_bytes(checkout.archives["docker"].key_ring.public(checkout.archives["debian"].signers[0]))
    with pytest.raises(DindkitError, match="is pinned for it"):
        checkout.lock("docker-ce")
    assert sorted(checkout.project.images.rglob("*")) == before


def publish_new_base(checkout: Checkout) -> None:
    checkout.archives["debian"].add_deb("added", fields={"Essential": "yes"})
    checkout.archives["debian"].publish("trixie")


def test_one_lock_moves_all_that_stand_over_the_same_base(checkout: Checkout) -> None:
    for engine in ("docker-ce", "docker.io"):
        checkout.lock(engine)
        path = checkout.project.images / f"dind/trixie-amd64-{engine}.lock"
        locks.write(replace(locks.read(path), expected=Expected("sha256:" + "0" * 64, ())), path)
    publish_new_base(checkout)
    checkout.lock("docker.io")
    assert checkout.take("docker-ce") == "docker-ce"
    assert checkout.take("docker.io") == "docker.io"
    for engine in ("docker-ce", "docker.io"):
        assert locks.read(checkout.project.images / f"dind/trixie-amd64-{engine}.lock").expected is None


def test_a_lock_whose_archive_is_away_is_left_and_named(checkout: Checkout) -> None:
    checkout.lock("docker-ce")
    checkout.lock("docker.io")
    publish_new_base(checkout)
    checkout.cut_off()
    checkout.lock("docker.io")
    left = "trixie-amd64-docker-ce.lock of dind is left as it is, for its archive cannot be reached"
    assert f"{left}, and stands over the earlier lock of base." in checkout.said.getvalue()
    assert checkout.take("docker.io") == "docker.io"
    with pytest.raises(RecipeError, match="made over another lock of base"):
        checkout.take("docker-ce")


def test_verify_writes_no_lock(checkout: Checkout) -> None:
    checkout.lock("docker.io")
    before = sorted(checkout.project.images.rglob("*"))
    with pytest.raises(DindkitError):  # what is in these archives is no Debian
        rebuild.rebuild(checkout.project, BuildOptions(architecture="amd64"), Progress(checkout.said))
    assert sorted(checkout.project.images.rglob("*")) == before


def test_a_lock_that_is_left_is_named_though_its_base_has_not_moved(checkout: Checkout) -> None:
    checkout.lock("docker-ce")
    checkout.cut_off()
    before = (checkout.project.images / "dind/trixie-amd64-docker-ce.lock").read_bytes()
    checkout.lock("docker.io")
    assert (checkout.project.images / "dind/trixie-amd64-docker-ce.lock").read_bytes() == before
    assert "docker-ce.lock of dind is left as it is" in checkout.said.getvalue()
    assert checkout.take("docker-ce") == "docker-ce"


def test_an_explicit_choice_never_falls_back(checkout: Checkout) -> None:
    checkout.lock("docker.io")
    checkout.cut_off()
    with pytest.raises(RecipeError, match="no lock"):
        checkout.take("docker-ce")
    with pytest.raises(DindkitError, match="InRelease of docker trixie cannot be had"):
        checkout.lock("docker-ce")
    assert not (checkout.project.images / "dind/trixie-amd64-docker-ce.lock").exists()
