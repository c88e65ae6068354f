"""A small tree in which a shell runs, and the sandboxes to run it in."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from dindkit.image import oci
from dindkit.image.build import Built
from dindkit.image.sandbox import Namespaces
from dindkit.image.tree import Spool, Tree, read_tar

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
    with oci.open_archive(base.archive) as archive:
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
