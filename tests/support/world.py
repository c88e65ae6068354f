"""A small tree in which a shell runs, and a project with an archive of its own to build from."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest

from dindkit.formats import deb
from dindkit.formats.image_archive import open_archive
from dindkit.formats.tree import Spool, Tree, read_tar
from dindkit.image import locking
from dindkit.image.build import Built, build
from dindkit.image.order import Order, resolve
from dindkit.packages.download_cache import DownloadCache
from dindkit.progress import Progress
from dindkit.project import Project
from dindkit.sandbox.namespaces import Namespaces
from tests.support.archive import ArchiveBuilder, KeyRing, Pin, Server, make_project, serve

#: Enough of the base image for shell scripts.
WANTED = (
    "etc/passwd",
    "etc/group",
    "tmp",
    "bin",
    "lib",
    "lib64",
    "sbin",
    "usr/bin/",
    "usr/lib/x86_64-linux-gnu/",
    "usr/lib/aarch64-linux-gnu/",
    "usr/lib64/",
)


@pytest.fixture(scope="session")
def spool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spool]:
    made = Spool(tmp_path_factory.mktemp("spool"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def shell_tree(base: Built, spool: Spool) -> Tree:
    with open_archive(base.archive) as archive:
        whole = archive.tree(spool)
    small = Tree(spool)
    for path in whole.paths():
        left_out = "perl" in path or "/gconv" in path
        if path and not left_out and any(path == one or path.startswith(one) for one in WANTED):
            small.add(whole.entries[path])
    return small


Run = Callable[..., Tree]


@pytest.fixture
def sandbox(tmp_path: Path) -> Namespaces:
    return Namespaces(tmp_path / "sandbox")


@pytest.fixture
def run(sandbox: Namespaces, shell_tree: Tree, spool: Spool) -> Run:
    """Run a script in a copy of the small tree; return the tree afterwards."""

    def go(script: str, size: int = 500_000_000) -> Tree:
        def take(stream: IO[bytes]) -> Tree:
            return Tree(spool, read_tar(stream, spool))

        return sandbox.run(shell_tree.write, script, take, {}, size)

    return go


def tar_of(tree: Tree) -> bytes:
    out = io.BytesIO()
    tree.write(out)
    return out.getvalue()


@dataclass
class World:
    """A project whose archive, on loopback, has the real packages of base and whatever a test adds."""

    project: Project
    archive: ArchiveBuilder
    server: Server
    said: io.StringIO

    def publish(self) -> None:
        self.archive.publish("trixie", architecture=Order().target)

    def lock(self, image: str = "app") -> None:
        locking.lock(self.project, Order(image=image), Progress(self.said))

    def build(self, image: str = "app", **words: Any) -> Built:
        return build(self.project, Order(image=image, **words), Progress(self.said))

    def images(self) -> set[str]:
        """Return every file under the state folder's images, but for lock files."""
        folder = self.project.state / "images"
        return {str(path) for path in folder.rglob("*") if path.is_file() and path.name != "lock"}


RECIPE = 'parent = "base"\npackages = ["greeter"]\n[slim]\nexclude = ["/usr/share/doc/*"]\n'


@pytest.fixture(scope="session")
def ring() -> Iterator[KeyRing]:
    made = KeyRing()
    yield made
    made.close()


@pytest.fixture(scope="session")
def prepared(
    ring: KeyRing, base: Built, project: Project, progress: Progress, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """Do once what takes long: make an archive with base's packages, and build base from it."""
    folder = tmp_path_factory.mktemp("world")
    archive = ArchiveBuilder(folder / "archive", ring, ring.make())
    store = DownloadCache(project.cache)
    for row in resolve(project, Order(image="base"))[-1].rows:
        name = f"{row.name}_{row.version.partition(':')[2] or row.version}_{row.architecture}.deb"
        (folder / name).write_bytes(store.path(row.sha256).read_bytes())
        archive.add_file(folder / name, deb.inspect(folder / name, row).control)
        (folder / name).unlink()
    with serve(archive.folder) as server:
        made = make_project(folder / "project", Pin("debian", archive, server.url))
        text = (project.images / "base" / "image.toml").read_text()
        (made.images / "base").mkdir(parents=True)
        (made.images / "app").mkdir()
        (made.images / "base" / "image.toml").write_text(re.sub(r"(?ms)^\[sources\].*?^$", "", text))
        (made.images / "app" / "image.toml").write_text(RECIPE)
        world = World(made, archive, server, io.StringIO())
        archive.add_deb("greeter", "1.0", files={"usr/bin/greet": "#!/bin/sh\necho hello\n"})
        world.publish()
        world.lock()
        world.build("base")
        yield world


@pytest.fixture
def world(prepared: World) -> Iterator[World]:
    """Lend the prepared world; archive, locks and recipe are put back afterwards."""
    stanzas = list(prepared.archive.stanzas)
    files = {path: path.read_bytes() for path in prepared.project.images.rglob("*") if path.is_file()}
    prepared.said.truncate(0)
    yield prepared
    prepared.archive.stanzas[:] = stanzas
    for path in list(prepared.project.images.rglob("*")):
        if path.is_file() and path not in files:
            path.unlink()
    for path, content in files.items():
        path.write_bytes(content)
    prepared.publish()
