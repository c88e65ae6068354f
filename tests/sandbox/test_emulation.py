"""Scripts of another architecture run in QEMU's user emulation; binfmt_misc of the host stays as it is."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import IO

import pytest

from dindkit import process
from dindkit.errors import ToolMissingError
from dindkit.formats.contents import ContentStore
from dindkit.formats.folder import pack
from dindkit.formats.tree import Tree, read_tar
from dindkit.image.build_options import BuildOptions, resolve
from dindkit.packages.download_cache import DownloadCache
from dindkit.progress import Progress
from dindkit.project import Project
from dindkit.sandbox import emulation
from dindkit.sandbox.choice import DefaultSandbox
from dindkit.sandbox.interface import HOSTNAME, ScriptRun
from dindkit.sandbox.namespaces import Namespaces

FOREIGN = next(name for name in emulation.MACHINES if emulation.is_foreign(name))
PACKAGES = {"coreutils", "dash", "libc6"}


@pytest.fixture(scope="module")
def folder(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with a shell of the other architecture, from the packages of its lock."""
    root = tmp_path_factory.mktemp("foreign")
    for name in ("bin", "lib", "sbin"):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    link = resolve(project, BuildOptions(image="base", architecture=FOREIGN))[-1]
    rows = [row for row in link.lock.rows if row.name in PACKAGES]
    assert len(rows) == len(PACKAGES)
    for file in DownloadCache(project.cache).fetch(rows, link.keys, Progress(quiet=True)).values():
        subprocess.run(["dpkg-deb", "--extract", file, root / "one"], check=True)
        subprocess.run(["cp", "--archive", f"{root}/one/.", root], check=True)
        subprocess.run(["rm", "--recursive", root / "one"], check=True)
    return root


def registered() -> set[str]:
    return {path.name for path in Path("/proc/sys/fs/binfmt_misc").glob("*")}


def test_a_script_runs(folder: Path, tmp_path: Path, contents: ContentStore) -> None:
    before = registered()

    def feed(out: IO[bytes]) -> None:
        pack(str(folder), out)

    script = "uname -m >/seen; (uname -s; exec uname -n) >>/seen; chown 7:8 /seen"
    tree = Namespaces(tmp_path / "sandbox", FOREIGN).run(
        ScriptRun(feed, script, lambda stream: Tree(contents, read_tar(stream, contents)), {}, 500_000_000)
    )
    assert tree.text("seen").split() == [emulation.MACHINES[FOREIGN][1], "Linux", HOSTNAME]
    assert (tree.entries["seen"].uid, tree.entries["seen"].gid) == (7, 8)
    assert registered() == before


def test_a_script_that_fails_is_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"A maintainer script failed: .*no such program"):
        Namespaces(tmp_path / "sandbox", FOREIGN).run(
            ScriptRun(
                lambda out: pack(str(folder), out),
                "echo no such program >&2; exit 3",
                lambda stream: stream.read(),
                {},
                500_000_000,
            )
        )


def test_without_the_emulator_one_sentence(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def require(tool: str) -> str:
        if tool.startswith("qemu-"):
            raise ToolMissingError(
                f"{tool} is not installed.", f"Run: apt-get install {process.PACKAGE_OF.get(tool)}"
            )
        return f"/usr/bin/{tool}"

    monkeypatch.setattr(process, "require", require)
    here = Project(project.root, tmp_path / "state", project.cache)
    (tmp_path / "state").mkdir()
    with pytest.raises(ToolMissingError, match=r"qemu-\w+-static is not installed.*install qemu-user-static"):
        DefaultSandbox(here, Progress(quiet=True), FOREIGN).run(
            ScriptRun(lambda out: None, "true", lambda stream: stream.read(), {}, 1_000_000)
        )


def test_an_emulator_with_libraries_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its linker and libraries would be looked for in the tree, where another architecture's are."""
    (tmp_path / "main.c").write_text("int main(void) { return 0; }\n")
    first, second = emulation.interpreter_names(FOREIGN)

    def emulator(*options: str) -> None:
        subprocess.run(["gcc", *options, "-o", tmp_path / second, tmp_path / "main.c"], check=True)

    def require(tool: str) -> str:
        if tool == first:
            raise ToolMissingError(f"{tool} is not installed.")
        return str(tmp_path / tool) if tool == second else f"/usr/bin/{tool}"

    monkeypatch.setattr(process, "require", require)
    taken = f"{FOREIGN}:{tmp_path / second}"
    emulator("-static")
    assert taken in Namespaces(tmp_path, FOREIGN).argv("true", 1)
    emulator("-static-pie")
    assert taken in Namespaces(tmp_path, FOREIGN).argv("true", 1)
    emulator()
    with pytest.raises(ToolMissingError, match=f"{first} is not installed"):
        Namespaces(tmp_path, FOREIGN).argv("true", 1)
    (tmp_path / second).write_text("#!/bin/sh\n")
    with pytest.raises(ToolMissingError, match=f"{first} is not installed"):
        Namespaces(tmp_path, FOREIGN).argv("true", 1)
