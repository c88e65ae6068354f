"""Engine docker-ce from end to end, on a stand-in for Docker's archive: trusted, locked, built, booted.

The stand-in is made and signed here; tests/support/docker_ce.py says what is Docker's about it, what not.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from dindkit.errors import RecipeError, TrustError
from dindkit.formats.contents import ContentStore
from dindkit.formats.tree import Tree
from dindkit.image import locking
from dindkit.image.build import Built, build
from dindkit.image.build_options import BuildOptions, resolve
from dindkit.image.built import opened
from dindkit.packages import keys
from dindkit.packages.download_cache import DownloadCache
from dindkit.packages.lock import Lock
from dindkit.progress import Progress
from dindkit.project import Project
from tests.support import docker_ce
from tests.support.archive import ArchiveBuilder, KeyRing, Server, serve
from tests.support.host import copy_built

pytestmark = pytest.mark.archive

OPTIONS = BuildOptions(engine="docker-ce")

#: Run where nothing else is: in a network namespace of its own, with the image itself as the engine.
SMOKE = """
import os, sys
from pathlib import Path
from dindkit.embedded import lifecycle
from dindkit.smoke import smoke
from dindkit.image.build import BuildOptions, build
from dindkit.progress import Progress
from dindkit.project import Project

project = Project(*map(Path, sys.argv[1:]))
progress = Progress(sys.stdout)
engine = lifecycle.start(project, build(project, BuildOptions(engine="docker-ce"), progress), progress)
os.environ["DOCKER_HOST"] = engine.host
try:
    smoke.run(project, progress)
finally:
    lifecycle.stop(project, progress, purge=True)
"""


@dataclass
class StandIn:
    """A project like the checkout, but for Docker's archive, which is the stand-in behind `server`."""

    project: Project
    server: Server
    archive: ArchiveBuilder


@pytest.fixture(scope="module")
def stand_in(
    project: Project, base: Built, progress: Progress, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StandIn]:
    folder = tmp_path_factory.mktemp("docker-ce")
    key_ring = KeyRing()
    signer = key_ring.make("Stand-in for Docker's archive")
    archive = ArchiveBuilder(folder / "archive", key_ring, signer)
    docker_ce.fill(archive, _debian(project, progress), folder)
    archive.publish("trixie", component="stable")
    root = folder / "project"
    shutil.copytree(project.images, root / "images", symlinks=True)
    for lock in root.glob("images/*/*-*-*.lock"):  # base, which has no engine, is the committed one
        lock.unlink()
    shutil.copytree(project.keys, root / "keys")
    (root / "keys/docker.asc").write_bytes(key_ring.public(signer))
    with serve(archive.folder) as server:
        pins = (root / "keys/archives.toml").read_text()
        pins, addresses = re.subn(r"(\[archives\.docker\]\n)uris = .*", rf'\1uris = ["{server.url}"]', pins)
        pins, fingerprints = re.subn(
            r'(\[keys\."docker\.asc"\]\n)fingerprint = .*', rf'\1fingerprint = "{signer}"', pins
        )
        assert (addresses, fingerprints) == (1, 1)
        (root / "keys/archives.toml").write_text(pins)
        made = Project(root, folder / "state", project.cache)
        copy_built(project, made.state, base)
        yield StandIn(made, server, archive)
    key_ring.close()


def _debian(project: Project, progress: Progress) -> dict[str, Path]:
    """Fetch Debian's engine as the committed lock names it."""
    chain = resolve(project, BuildOptions(engine="docker.io"))
    rows = [row for row in chain[-1].rows if row.name in docker_ce.SOURCES]
    files = DownloadCache(project.cache).fetch(
        rows, keys.load(project.keys), progress, chain[-1].lock.snapshots
    )
    return {row.name: path for row, path in files.items()}


@pytest.fixture(scope="module")
def lock(stand_in: StandIn, progress: Progress) -> Lock:
    locking.lock(stand_in.project, OPTIONS, progress)
    return resolve(stand_in.project, OPTIONS)[-1].lock


@pytest.fixture(scope="module")
def built(stand_in: StandIn, lock: Lock, progress: Progress) -> Built:
    return build(stand_in.project, OPTIONS, progress)


@pytest.fixture(scope="module")
def tree(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    contents = ContentStore(tmp_path_factory.mktemp("tree"))
    with opened(built) as layout:
        yield layout.tree(contents)
    contents.close()


def test_the_lock_takes_dockers_packages_from_docker_and_all_others_from_debian(lock: Lock) -> None:
    archives = {row.name: row.archive for row in lock.rows}
    dockers = {name for name, archive in archives.items() if archive == "docker"}
    assert dockers == {one.name for one in docker_ce.PACKAGES}
    assert not archives.keys() & {"docker.io", "docker-cli", "containerd", "runc", "docker-buildx"}
    assert archives["nftables"] == archives["libnftables1"] == "debian"
    assert {record.archive for record in lock.archives} == {"debian", "debian-security", "docker"}
    assert next(row.version for row in lock.rows if row.name == "docker-ce") == "5:29.5.3-1~debian.13~trixie"


def test_dockers_layout_is_reached_from_path(tree: Tree) -> None:
    assert tree.entries["usr/bin/dockerd"].kind == "file"
    init, compose = tree.entries["usr/local/bin/docker-init"], tree.entries["usr/local/bin/docker-compose"]
    assert tree.entries[init.link.strip("/")].mode & 0o111
    assert tree.entries[compose.link.strip("/")].mode & 0o111
    assert "usr/sbin/dockerd" not in tree.entries
    assert [line for line in tree.text("etc/group").splitlines() if line.startswith("docker:")] == [
        "docker:x:2375:"
    ]


def test_apt_in_the_image_trusts_dockers_archive_under_the_pinned_key(tree: Tree, stand_in: StandIn) -> None:
    sources = tree.text("etc/apt/sources.list.d/docker.sources")
    assert stand_in.server.url in sources
    (key,) = re.findall(r"Signed-By: /(\S+)", sources)
    assert tree.text(key).encode() == (stand_in.project.keys / "docker.asc").read_bytes()


def test_it_boots_and_says_hello_three_levels_deep(stand_in: StandIn, built: Built) -> None:
    project = stand_in.project
    words = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    words += [sys.executable, "-c", SMOKE, str(project.root), str(project.state), str(project.cache)]
    done = subprocess.run(words, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nested: passed" in done.stdout


def test_a_key_that_is_not_the_pinned_one_stops_the_lock(
    stand_in: StandIn, progress: Progress, tmp_path: Path
) -> None:
    other = ArchiveBuilder(
        tmp_path / "other", stand_in.archive.key_ring, stand_in.archive.key_ring.make("Somebody")
    )
    good = stand_in.archive.folder / "dists/trixie/InRelease"
    kept = good.read_bytes()
    other.stanzas = stand_in.archive.stanzas
    try:
        good.write_bytes(other.publish("trixie", component="stable").read_bytes())
        with pytest.raises(TrustError, match="not signed by a key pinned for it"):
            locking.lock(stand_in.project, OPTIONS, progress)
    finally:
        good.write_bytes(kept)


def test_a_package_changed_under_way_stops_the_build(
    stand_in: StandIn, lock: Lock, progress: Progress, tmp_path: Path
) -> None:
    project = replace(stand_in.project, cache=tmp_path / "cache", state=tmp_path / "state")
    stand_in.server.faults.flip.add(stand_in.archive.path("docker-compose-plugin"))
    try:
        with pytest.raises(TrustError, match="docker-compose-plugin"):
            build(project, replace(OPTIONS, frozen=True), progress)
    finally:
        stand_in.server.faults.flip.clear()
    assert not list((tmp_path / "state").glob("images/*/built.json"))


def test_an_explicit_choice_never_falls_back(stand_in: StandIn, progress: Progress, tmp_path: Path) -> None:
    root = tmp_path / "project"
    ignore = shutil.ignore_patterns("*docker-ce.lock")
    shutil.copytree(stand_in.project.root, root, ignore=ignore, symlinks=True)
    with pytest.raises(RecipeError, match="no lock"):
        build(Project(root, tmp_path / "state", stand_in.project.cache), OPTIONS, progress)
