"""The sandbox on a Docker engine does what the one of Linux does."""

from __future__ import annotations

from typing import IO

import pytest

from dindkit.engine.discover import Engine
from dindkit.formats.contents import ContentStore
from dindkit.formats.tree import Tree, read_tar
from dindkit.image.build import BuildOptions, build
from dindkit.progress import Progress
from dindkit.project import Project
from dindkit.sandbox.container import Container
from dindkit.sandbox.interface import SandboxError, ScriptRun
from tests.support.local_project import LocalProject

pytestmark = pytest.mark.engine


def run(engine: Engine, tree: Tree, script: str) -> Tree:
    def take(stream: IO[bytes]) -> Tree:
        return Tree(tree.contents, read_tar(stream, tree.contents))

    return Container(engine.client).run(ScriptRun(tree.write, script, take, {"GIVEN": "yes"}, 0))


def everything(engine: Engine) -> set[str]:
    containers = {one["Id"] for one in engine.client.api.containers(all=True)}
    return containers | {one["Id"] for one in engine.client.api.images(all=True)}


def test_a_script_runs_in_a_fixed_world_and_leaves_nothing(engine: Engine, shell_tree: Tree) -> None:
    before = everything(engine)
    tree = run(engine, shell_tree, "{ env; umask; uname -n; ls /sys/class/net; } >/seen; mkdir -m 1777 /new")
    assert tree.entries["new"].mode == 0o1777
    seen = tree.text("seen").splitlines()
    assert {"GIVEN=yes", "LC_ALL=C", "TZ=UTC", "0022", "dindkit", "lo"} <= set(seen)
    assert not any(name.startswith("eth") for name in seen)
    assert everything(engine) == before


def test_a_failing_script_is_quoted_and_leaves_nothing(engine: Engine, shell_tree: Tree) -> None:
    before = everything(engine)
    with pytest.raises(SandboxError, match="cannot go on"):
        run(engine, shell_tree, "echo 'cannot go on' >&2; exit 3")
    assert everything(engine) == before


@pytest.mark.full  # tests/engine/test_sandbox.py compares a smaller one's id, in a container as well
def test_the_image_is_the_same_to_the_byte(
    engine: Engine,
    local_project: LocalProject,
    contents: ContentStore,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    state = tmp_path_factory.mktemp("state")
    project = Project(local_project.project.root, state, local_project.project.cache)
    built = build(
        project, BuildOptions(image="app"), Progress(local_project.said), sandbox=Container(engine.client)
    )
    assert built.archive.read_bytes() == local_project.build().archive.read_bytes()
