"""A small tree in which a shell runs, and a project with an archive of its own to build from."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest

from dindkit.formats.contents import ContentStore
from dindkit.formats.image_archive import open_archive
from dindkit.formats.tree import Tree, read_tar
from dindkit.image import locking
from dindkit.image.build import Built, build
from dindkit.image.build_options import BuildOptions, resolve
from dindkit.packages.download_cache import DownloadCache
from dindkit.progress import Progress
from dindkit.project import Project
from dindkit.sandbox.interface import ScriptRun
from dindkit.sandbox.namespaces import Namespaces
from tests.support.archive import ArchiveBuilder, KeyRing, Pin, Server, make_project, serve
from tests.support.deb import Files

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


@pytest.fixture
def contents(tmp_path: Path) -> Iterator[ContentStore]:
    """Give a store for one test: it may adopt files that are gone after it."""
    with closing(ContentStore(tmp_path / "contents")) as made:
        yield made


@pytest.fixture(scope="session")
def shell_tree(base: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """Give a tree that tests leave as it is."""
    with closing(ContentStore(tmp_path_factory.mktemp("contents"))) as contents:
        with open_archive(base.archive) as archive:
            whole = archive.tree(contents)
        small = Tree(contents)
        for path in whole.paths():
            left_out = "perl" in path or "/gconv" in path
            if path and not left_out and any(path == one or path.startswith(one) for one in WANTED):
                small.add(whole.entries[path])
        yield small


Run = Callable[..., Tree]


@pytest.fixture
def sandbox(tmp_path: Path) -> Namespaces:
    return Namespaces(tmp_path / "sandbox")


@pytest.fixture
def run(sandbox: Namespaces, shell_tree: Tree, contents: ContentStore) -> Run:
    """Run a script in a copy of the small tree; return the tree afterwards."""

    def go(script: str, size: int = 500_000_000) -> Tree:
        def take(stream: IO[bytes]) -> Tree:
            return Tree(contents, read_tar(stream, contents))

        return sandbox.run(ScriptRun(shell_tree.write, script, take, {}, size))

    return go


def tar_of(tree: Tree) -> bytes:
    out = io.BytesIO()
    tree.write(out)
    return out.getvalue()


@dataclass
class LocalProject:
    """A project whose archive, on loopback, has the real packages of base and whatever a test adds."""

    project: Project
    archive: ArchiveBuilder
    server: Server
    said: io.StringIO

    def publish(self) -> None:
        self.archive.publish("trixie", architecture=BuildOptions().target)

    def lock(self, image: str = "app") -> None:
        locking.lock(self.project, BuildOptions(image=image), Progress(self.said))

    def build(self, image: str = "app", **words: Any) -> Built:
        return build(self.project, BuildOptions(image=image, **words), Progress(self.said))

    def images(self) -> set[str]:
        """Return every file under the state folder's images, but for lock files."""
        folder = self.project.state / "images"
        return {str(path) for path in folder.rglob("*") if path.is_file() and path.name != "lock"}


def tree_of(built: Built, contents: ContentStore) -> Tree:
    with open_archive(built.archive) as archive:
        return archive.tree(contents)


def lock_file(local_project: LocalProject, image: str = "app") -> Path:
    (path,) = (local_project.project.images / image).glob("*.lock")
    return path


def publish_greeter(
    local_project: LocalProject,
    version: str,
    files: Files | None = None,
    scripts: Mapping[str, str] | None = None,
) -> None:
    """Let the archive have another version of greeter, and only that."""
    local_project.archive.stanzas[:] = [
        one for one in local_project.archive.stanzas if one["Package"] != "greeter"
    ]
    local_project.archive.add_deb("greeter", version, files=files, scripts=scripts)
    local_project.publish()


RECIPE = 'parent = "base"\npackages = ["greeter"]\n[slim]\nexclude = ["/usr/share/doc/*"]\n'


@pytest.fixture(scope="session")
def key_ring() -> Iterator[KeyRing]:
    made = KeyRing()
    yield made
    made.close()


@pytest.fixture(scope="session")
def shared_local_project(
    key_ring: KeyRing,
    base: Built,
    project: Project,
    progress: Progress,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[LocalProject]:
    """Do once what takes long: make an archive with base's packages, and build base from it."""
    folder = tmp_path_factory.mktemp("local-project")
    archive = ArchiveBuilder(folder / "archive", key_ring, key_ring.make())
    store = DownloadCache(project.cache)
    for row in resolve(project, BuildOptions(image="base"))[-1].rows:
        archive.add_row(row, store.path(row.sha256))
    with serve(archive.folder) as server:
        made = make_project(folder / "project", Pin("debian", archive, server.url))
        text = (project.images / "base" / "image.toml").read_text()
        (made.images / "base").mkdir(parents=True)
        (made.images / "app").mkdir()
        (made.images / "base" / "image.toml").write_text(re.sub(r"(?ms)^\[sources\].*?^$", "", text))
        (made.images / "app" / "image.toml").write_text(RECIPE)
        local_project = LocalProject(made, archive, server, io.StringIO())
        archive.add_deb("greeter", "1.0", files={"usr/bin/greet": "#!/bin/sh\necho hello\n"})
        local_project.publish()
        local_project.lock()
        local_project.build("base")
        yield local_project


@pytest.fixture
def local_project(shared_local_project: LocalProject) -> Iterator[LocalProject]:
    """Lend the shared project; archive, locks and recipe are put back afterwards."""
    with lent(shared_local_project) as project:
        yield project


@contextmanager
def lent(shared: LocalProject) -> Iterator[LocalProject]:
    """Yield a project, and put archive, locks and recipe back after the block."""
    stanzas = list(shared.archive.stanzas)
    before = {path: path.read_bytes() if path.is_file() else b"" for path in shared.project.images.rglob("*")}
    shared.said.truncate(0)
    yield shared
    shared.archive.stanzas[:] = stanzas
    for path in sorted(
        shared.project.images.rglob("*"), reverse=True
    ):  # what is in a folder before the folder
        if path not in before and path.is_dir() and not path.is_symlink():
            path.rmdir()
        elif path not in before:
            path.unlink()
    for path, content in before.items():
        if not path.is_dir():
            path.write_bytes(content)
    shared.publish()
