"""The same lock gives the same bytes on any host, in any folder, at any time, as root or not."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from dindkit.packages import lock as locks
from tests.support.local_project import LocalProject, lock_file
from tests.support.ordinary_user import OrdinaryUser

HERE = Path(__file__).parents[2]

BUILD = """
import os
import sys
from pathlib import Path
from dindkit.image import build
from dataclasses import replace
from dindkit.sandbox.namespaces import Namespaces
from dindkit.formats.tar_writer import Writer
from dindkit.formats.entry import Entry
from dindkit.packages import download_cache
from dindkit.progress import Progress
from dindkit.project import Project

class OtherTime(Namespaces):
    "Lets maintainer scripts see another time: libfaketime is in the tree while they run."

    def run(self, run):
        library = Path(os.environ["LIBFAKETIME"]).read_bytes()

        def with_library(out):
            Writer(out).add(Entry(".faketime.so", "file", 0o755, size=len(library)), [library])
            run.write_tree(out)

        shift = os.environ["SHIFT"]
        words = f"export LD_PRELOAD=/.faketime.so FAKETIME={shift}; date +%Y >/.year; {run.script}"
        end = f"unset LD_PRELOAD; [ $(cat /.year) != $(date +%Y) ]; rm /.faketime.so /.year"
        return super().run(replace(run, write_tree=with_library, script=f"{words}\\n{end}"))

class OtherOrder(download_cache.DownloadCache):
    "Fetches one package after the other, the last row first, and returns them in that order."

    def fetch(self, rows, *others):
        download_cache.CONNECTIONS = 1
        return super().fetch(list(rows)[::-1], *others)

if "REVERSED" in os.environ:
    download_cache.DownloadCache = OtherOrder

if "CORES" in os.environ:
    os.cpu_count = lambda: int(os.environ["CORES"])

root, state, cache = (Path(word) for word in sys.argv[1:])
sandbox = OtherTime(state / "sandbox") if "SHIFT" in os.environ else None
built = build.build(Project(root, state, cache), build.BuildOptions(image="app"), Progress(), sandbox=sandbox)
print(built.archive)
"""


@dataclass(frozen=True)
class Recipe:
    """The local project, where another user can read it."""

    root: Path
    cache: Path


@pytest.fixture(scope="module")
def recipe(shared_local_project: LocalProject) -> Iterator[Recipe]:
    with copied(shared_local_project, "local") as made:
        yield made


@pytest.fixture(scope="module")
def small_recipe(shared_small_project: LocalProject) -> Iterator[Recipe]:
    """Give the small project, for builds that end before it matters what they are of."""
    with copied(shared_small_project, "small") as made:
        yield made


@contextmanager
def copied(local_project: LocalProject, name: str) -> Iterator[Recipe]:
    """Yield a copy of a project where everybody may read it: pytest's own folders are closed to others."""
    folder = Path("/tmp") / f"dindkit-{name}-{os.getpid()}"
    ignore = shutil.ignore_patterns("state", "cache")
    shutil.copytree(local_project.project.root, folder / "elsewhere", ignore=ignore)
    shutil.copytree(local_project.project.cache, folder / "cache")
    yield Recipe(folder / "elsewhere", folder / "cache")
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def wanted(shared_local_project: LocalProject) -> str:
    return hashlib.sha256(shared_local_project.build().archive.read_bytes()).hexdigest()


def digest(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return hashlib.sha256(Path(done.stdout.strip()).read_bytes()).hexdigest()


def build(recipe: Recipe, state: Path, *around: str, **env: str) -> str:
    done = subprocess.run(
        [*around, sys.executable, "-c", BUILD, str(recipe.root), str(state), str(recipe.cache)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(HERE), **env},
    )
    return digest(done)


# Conditions that have nothing to do with each other share a build, which takes its time: none can make up for
# another. Checks run in as many threads as the machine has cores; `wanted` was built with those of this one.


def another_clock(shift: str) -> dict[str, str]:
    """Return the variables for BUILD with which maintainer scripts see another time."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    return {"SHIFT": shift, "LIBFAKETIME": str(library)}


def test_another_folder_name_umask_zone_locale_and_a_clock_that_is_slow_on_one_core_with_one_thread(
    recipe: Recipe, wanted: str, tmp_path: Path
) -> None:
    change = 'hostname other-host; umask 077; exec taskset --cpu-list 0 "$@"'
    around = ["unshare", "--uts", "sh", "-euc", change, "sh"]
    elsewhere = {"TZ": "Asia/Tokyo", "LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8"}
    other = {**elsewhere, **another_clock("-366d"), "CORES": "1"}
    assert build(recipe, tmp_path / "s", *around, **other) == wanted


def test_downloads_that_arrive_in_another_order_and_a_clock_that_is_fast_with_many_threads(
    shared_local_project: LocalProject, recipe: Recipe, wanted: str, tmp_path: Path
) -> None:
    empty = Recipe(recipe.root, tmp_path / "cache")
    shared_local_project.server.requests.clear()
    other = {**another_clock("+366d"), "REVERSED": "yes", "CORES": "8"}
    assert build(empty, tmp_path / "s", **other) == wanted
    found = [locks.read(lock_file(shared_local_project, image)).rows for image in ("base", "app")]
    rows = [row for one in found for row in sorted(one, key=lambda row: row.size, reverse=True)]
    assert shared_local_project.server.requests == [f"/{row.path}" for row in reversed(rows)]


def without_root(recipe: Recipe, user: OrdinaryUser, **environment: str) -> subprocess.CompletedProcess[str]:
    shutil.copytree(recipe.cache, user.home / "cache")
    user.own(user.home)
    words = ["-c", BUILD, str(recipe.root), str(user.home / "state"), str(user.home / "cache")]
    return subprocess.run(
        user.command(user.python, *words),
        env={**os.environ, **user.environment(), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_root(recipe: Recipe, wanted: str, ordinary_user: OrdinaryUser) -> None:
    """In two threads, whatever the machine has."""
    assert digest(without_root(recipe, ordinary_user, CORES="2")) == wanted


def test_without_root_and_without_subordinate_ids(small_recipe: Recipe, ordinary_user: OrdinaryUser) -> None:
    ordinary_user.take_subordinate_ids()
    done = without_root(small_recipe, ordinary_user)
    assert done.returncode != 0
    assert "There is no root here, and this user has no subordinate ids. Run as root" in done.stderr


def test_without_root_and_without_user_namespaces(small_recipe: Recipe, ordinary_user: OrdinaryUser) -> None:
    """In a chroot the kernel lets nobody make one, whatever the host's settings: user_namespaces(7)."""
    done = without_root(small_recipe, ordinary_user, CHROOT="yes")
    assert done.returncode != 0
    assert "There is no root here, and no user namespace (unshare: " in done.stderr
    assert "allow user namespaces" in done.stderr
