"""dindkit as pip installs it: a wheel in a virtual environment, with no checkout in sight."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import tasks
from dindkit.formats.contents import ContentStore
from dindkit.image.build import BuildOptions, build
from dindkit.image.built import Built, opened
from dindkit.progress import Progress
from dindkit.project import Project
from tests.support.host import share_layers

ROOT = Path(__file__).parents[1]
#: pip downloads what dindkit needs.
pytestmark = pytest.mark.archive


@dataclass(frozen=True)
class Installed:
    """A virtual environment with dindkit, and a state folder for it."""

    venv: Path
    state: Path
    checkout: Path

    @property
    def package(self) -> Path:
        (found,) = self.venv.glob("lib/python*/site-packages/dindkit")
        return found

    def environment(self) -> dict[str, str]:
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL"))
        }
        path = f"{self.venv / 'bin'}:{os.environ['PATH']}"
        return {**kept, "PATH": path, "DINDKIT_STATE": str(self.state), "DOCKER_HOST": "unix:///nowhere.sock"}

    def run(self, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["dindkit", *words],
            cwd=folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )


def copy_checkout(target: Path) -> Path:
    """Copy what git knows or would take: pip builds in the folder that it is given."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if os.path.lexists(ROOT / name):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name, follow_symlinks=False)
    return target


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def commands() -> tuple[str, str]:
    """Return those commands of docs/recipes.md that install dindkit, and those that make an image then."""
    found = re.search(
        r"## In five minutes\n.*?```sh\n(.*?)(export PATH=.*?)```",
        (ROOT / "docs/recipes.md").read_text(),
        re.DOTALL,
    )
    assert found
    return found[1], found[2]


def run_as_written(made: Installed, script: str) -> str:
    """Run commands of the page in the folder that has the checkout, with the PATH of whoever reads it."""
    done = subprocess.run(
        ["sh", "-eux", "-c", script],
        cwd=made.checkout.parent,
        env=made.environment() | {"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(project: Project, dind: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """Install it as the page says: pip makes a wheel of the checkout, and installs that.

    Its state has the layers of dind's packages; what comes above them it assembles.
    """
    folder = tmp_path_factory.mktemp("a folder with spaces")
    made = Installed(folder / "env", folder / "state", copy_checkout(folder / "dindkit"))
    run_as_written(made, commands()[0])
    share_layers(project, made.state)
    before = digests(made.package)
    yield made
    assert digests(made.package) == before  # no command has written into the package


def test_the_sealed_image_comes_out_of_the_wheel(installed: Installed, dind: Built, tmp_path: Path) -> None:
    """It is the image that the checkout builds, and where the lock is sealed `--frozen` holds both to it."""
    done = installed.run(tmp_path, "build", "--frozen", "--suite", dind.inputs.lock.suite)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"built {dind.reference} {dind.image_id}\n"
    share = installed.package / "share/images/dind/rootfs"
    assert not [path for path in share.rglob("*") if path.is_symlink()]  # which is what rootfs.json is for
    assert str(installed.package) not in done.stderr


def test_every_file_of_the_package_is_there(installed: Installed) -> None:
    listed = ["git", "ls-files", "-z", "--cached", "dindkit"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    assert [name for name in filter(None, names) if not (installed.package.parent / name).exists()] == []


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("--version", 0, "dindkit 0."),
        ("buld", 1, "error: There is no verb 'buld'. Did you mean build? See: dindkit --list"),
        (
            "build ./nix",
            1,
            "error: There is no folder ./nix. To begin a recipe there, run: dindkit init ./nix",
        ),
        ("lock", 1, "error: The lock of dind comes with the installed package, and is not for writing."),
        ("lock --seal --image base", 1, "error: The lock of base comes with the installed package"),
        ("lock --seal --all", 1, "error: The lock of base comes with the installed package"),
        ("test", 1, "error: Tests and linters are in the repository of dindkit"),
        ("lint", 1, "error: Tests and linters are in the repository of dindkit"),
        ("push", 1, "error: push needs REFERENCE. See: dindkit push --help"),
        ("--dry build", 1, "error: build has no dry run; nothing was done. See: dindkit build --help"),
    ],
)
def test_what_it_says(installed: Installed, tmp_path: Path, words: str, code: int, said: str) -> None:
    done = installed.run(tmp_path, *words.split())
    assert done.returncode == code
    assert (done.stdout + done.stderr).startswith(said)
    assert "invoke" not in done.stderr


def test_it_has_every_verb_with_help_of_its_own(installed: Installed, tmp_path: Path) -> None:
    shown = installed.run(tmp_path, "--list").stdout
    assert set(re.findall(r"^  ([a-z.]+) ", shown, re.MULTILINE)) == set(tasks.namespace.task_names)
    for name in ("build", "engine.start", "init"):
        shown = installed.run(tmp_path, "--help", name).stdout
        assert f"dindkit {name}" in shown
        assert "invoke" not in shown


def test_an_image_of_ones_own_from_an_empty_folder(
    installed: Installed, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = run_as_written(installed, commands()[1])
    first, last = re.findall(r"^built dindkit/my-runner:trixie (sha256:\w+)$", said, re.MULTILINE)
    assert first == last
    monkeypatch.chdir(installed.checkout.parent)
    mine = Project(project.root, installed.state, project.cache)
    built = build(mine, BuildOptions("./my-runner", frozen=True), Progress(quiet=True))
    assert built.image_id == last
    assert {"make", "tree"} <= {row.name for row in built.inputs.lock.rows}
    contents = ContentStore(tmp_path)
    with opened(built) as layout:
        greet = [
            one for one in layout.entries(built.layers[-1], contents) if one.path == "usr/local/bin/greet"
        ]
        config = layout.image.config["config"]
    contents.close()
    text = b'#!/bin/sh\necho "hello from $(uname -n)"\n'
    assert [(one.mode, one.digest) for one in greet] == [(0o755, hashlib.sha256(text).hexdigest())]
    assert config["Entrypoint"] == ["dockerd-entrypoint.sh"]
    assert config["Volumes"] == {"/var/lib/docker": {}}
    assert not list(installed.package.rglob("parents"))
