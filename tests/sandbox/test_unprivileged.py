"""In a container with an engine's default rights, as a CI job has, a build comes to the same id."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from docker.models.containers import Container

from dindkit.engine.discover import Engine
from dindkit.formats.contents import ContentStore
from dindkit.formats.image_archive import open_archive
from dindkit.image.build import Built
from dindkit.packages.download_cache import DownloadCache
from dindkit.project import Project
from dindkit.sandbox.chroot import ANNOUNCEMENT

pytestmark = pytest.mark.engine

#: What of the repository a build reads.
SOURCES = ("dindkit", "images", "keys", "pyproject.toml", "tasks.py")
#: Parts of Python's library that no build imports.
LEFT_OUT = {"__pycache__", "dist-packages", "ensurepip", "idlelib", "lib2to3", "site-packages", "test"}


def processes(job: Container) -> list[str]:
    """Return the programs that run in the container."""
    return sorted(row[-1] for row in job.top()["Processes"])


def packages(project: Project) -> list[metadata.Distribution]:
    """Return the packages that dindkit runs with."""
    text = (project.root / "requirements" / "run.txt").read_text()
    names = re.findall(r"(?m)^([\w.-]+)==\S+ \\", text)
    return [metadata.distribution(name) for name in names]


def libraries(programs: list[Path]) -> set[Path]:
    """Return the shared libraries that `programs` load."""
    said = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=False).stdout
    return {Path(path) for path in re.findall(r"=> (/\S+)", said)}


def runtime(project: Project, base: Built, contents: ContentStore, out: Path) -> str:
    """Write a tar of this Python, gpg, dindkit and base's packages, at the paths that they have here.

    `base` has neither, and a test installs nothing from an archive. Returns Python's path.
    """
    with open_archive(base.archive) as archive:
        present = {path.rpartition("/")[2] for path in archive.tree(contents).paths()}
    python, gpg = Path(sys.executable).resolve(), Path(str(shutil.which("gpg")))
    library = Path(sysconfig.get_path("stdlib"))
    modules = {Path(str(file.locate())) for one in packages(project) for file in one.files or ()}
    files = {python, gpg, *(path for path in modules if "__pycache__" not in path.parts)}
    files |= {path for path in library.rglob("*") if not LEFT_OUT & set(path.relative_to(library).parts)}
    programs = [python, gpg, *(path for path in files if ".so" in path.suffixes)]
    files |= {path for path in libraries(programs) if path.name not in present}

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if member.name.endswith("__pycache__") else member

    with tarfile.open(out, "w", dereference=True) as tar:
        for path in sorted(files):
            # The short name of /lib: `base` has a link there, which an engine would replace by a folder.
            name = re.sub(r"^/(lib\w*|s?bin)/", r"/usr/\1/", str(path))
            tar.add(path, name, recursive=False)
        for name in SOURCES:
            tar.add(project.root / name, f"/project/{name}", filter=plain)
        store = DownloadCache(project.cache)
        for row in base.inputs.lock.rows:
            found = store.path(row.sha256)
            tar.add(found, f"/cache/{found.relative_to(store.folder)}")
    return str(python)


@pytest.fixture
def job(engine: Engine, base: Built) -> Iterator[Container]:
    """Give a running container of `base`, with no right beyond the engine's defaults, and no network."""
    made = engine.client.containers.run(base.reference, ["sleep", "1000"], detach=True, network_mode="none")
    try:
        yield made
    finally:
        made.remove(force=True)


def test_the_id_is_the_same_and_nothing_stays(
    job: Container, project: Project, base: Built, contents: ContentStore, tmp_path: Path
) -> None:
    python = runtime(project, base, contents, tmp_path / "runtime.tar")
    with (tmp_path / "runtime.tar").open("rb") as tar:
        job.put_archive("/", tar)
    before = processes(job)
    folders = {str(one.locate_file("")) for one in packages(project)}
    code, output = job.exec_run(
        [python, "-m", "dindkit.command_line", "--search-root", "/project", "build", "--image", "base"],
        environment={
            "DINDKIT_CACHE": "/cache",
            "DINDKIT_STATE": "/state",
            "PYTHONPATH": ":".join(["/project", *sorted(folders)]),
        },
    )
    assert isinstance(output, bytes)
    said = output.decode()
    assert code == 0, said
    assert ANNOUNCEMENT in said
    assert f"built {base.reference} {base.image_id}" in said.splitlines()
    assert job.exec_run(["find", "/state/sandbox", "-mindepth", "1"])[1] == b""
    assert processes(job) == before
