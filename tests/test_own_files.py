"""Files of our own: what somebody else has put in their place, and folders that others may write to."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dindkit.embedded.paths import Paths, Record
from dindkit.errors import DindkitError
from dindkit.files import locked, open_regular, open_to_others, read_bounded
from dindkit.image import built
from dindkit.progress import Progress
from dindkit.project import Project, check_folders
from tests.support.odd_files import something_else

KINDS = ["pipe", "folder", "symbolic link", "device", "socket"]
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give files to others")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file"
    path.write_text("mine")
    with something_else(path, kind):
        with pytest.raises(DindkitError, match=f"There is a {kind} at {path}, where a file should be"):
            open_regular(path)
        with pytest.raises(DindkitError, match=f"There is a {kind} at {path}"), locked(path):
            pass
        with pytest.raises(DindkitError, match=f"There is a {kind} at"):
            Record.load(path)
    assert path.read_text() == "mine"
    with open_regular(path) as file:
        assert file.read() == b"mine"
    with locked(path):
        assert path.read_text() == "mine"
    assert os.listdir(tmp_path) == ["file"]  # noqa: PTH208 - the name alone


def test_a_lock_that_leads_nowhere_is_not_made_there(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DindkitError, match="There is a symbolic link at"), locked(tmp_path / "lock"):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_the_embedded_engines_lock_is_not_followed(tmp_path: Path) -> None:
    from dindkit.embedded import lifecycle

    project = Project(tmp_path, tmp_path / "state", tmp_path / "cache")
    project.state.mkdir()
    (tmp_path / "precious").write_text("mine")
    Paths(project).lock.symlink_to(tmp_path / "precious")
    with pytest.raises(DindkitError, match="There is a symbolic link at"), lifecycle._locked(Paths(project)):
        pass
    assert (tmp_path / "precious").read_text() == "mine"


def test_one_at_a_time(tmp_path: Path) -> None:
    """Another process waits, as flock(1) sees it."""
    with locked(tmp_path / "lock"):
        assert subprocess.run(["flock", "-n", tmp_path / "lock", "true"], check=False).returncode == 1
    assert subprocess.run(["flock", "-n", tmp_path / "lock", "true"], check=False).returncode == 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_description_of_a_built_image(tmp_path: Path, kind: str) -> None:
    (tmp_path / "built.json").write_text("{}")
    with something_else(tmp_path / "built.json", kind), pytest.raises(DindkitError, match=kind):
        built.read(tmp_path, None)  # type: ignore[arg-type] # it is not asked for


def test_a_document_has_a_bound(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    (tmp_path / "link").symlink_to(path)
    assert read_bounded(tmp_path / "link", 100) == b"x" * 100
    with pytest.raises(DindkitError, match="has more than 99 bytes"):
        read_bounded(path, 99)
    os.mkfifo(tmp_path / "pipe")
    for other, kind in ((tmp_path / "pipe", "pipe"), (tmp_path, "folder"), (Path("/dev/zero"), "device")):
        with pytest.raises(DindkitError, match=f"There is a {kind} at"):
            read_bounded(other, 10)


def owned(path: Path, user: int, mode: int) -> Path:
    path.mkdir(parents=True)
    os.chown(path, user, user)
    path.chmod(mode)
    return path


@ROOT
@pytest.mark.parametrize(
    ("user", "mode", "said"),
    [
        (0, 0o755, ""),
        (0, 0o777, "may be written by everybody"),
        (0, 0o1777, "may be written by everybody"),  # others may still add a file before we do
        (1000, 0o755, "belongs to user 1000"),
    ],
)
def test_a_state_folder_that_others_may_write_to_is_refused(
    tmp_path: Path, user: int, mode: int, said: str
) -> None:
    project = Project(tmp_path, owned(tmp_path / "state", user, mode), tmp_path / "cache")
    if not said:
        check_folders(project, Progress(quiet=True))
        return
    with pytest.raises(DindkitError, match=f"Others may swap what is built in {project.state}: it {said}"):
        check_folders(project, Progress(quiet=True))
    (tmp_path / "link").symlink_to(project.state)
    with pytest.raises(DindkitError, match=f"it {said}"):
        check_folders(Project(tmp_path, tmp_path / "link", tmp_path / "cache"), Progress(quiet=True))


@ROOT
def test_a_cache_that_others_may_write_to_is_warned_of(tmp_path: Path) -> None:
    said = io.StringIO()
    above = owned(tmp_path / "shared", 0, 0o1777)
    check_folders(Project(tmp_path, above / "state", above / "cache"), Progress(said))
    assert said.getvalue() == ""  # made just now, and kept from others by the sticky bit
    assert (above / "state").stat().st_mode & 0o022 == 0
    (above / "cache").chmod(0o777)
    check_folders(Project(tmp_path, above / "state", above / "cache"), Progress(said))
    assert said.getvalue() == (
        f"warning: others may swap what is in {above}/cache: {above}/cache may be written by everybody\n"
    )
    above.chmod(0o777)
    said.truncate(0)
    check_folders(Project(tmp_path, above / "state", above / "cache"), Progress(said))
    assert f"others may swap what is in {above}/state: {above} may be written by everybody" in said.getvalue()


@ROOT
def test_a_group_of_ones_own_is_nobody_else(tmp_path: Path) -> None:
    """Debian and Ubuntu give each user a group of its own, and umask 002 with it."""
    folder = owned(tmp_path / "state", 0, 0o775)
    assert open_to_others(folder) is None
    os.chown(folder, 0, 60_000)
    assert open_to_others(folder) == (folder, "may be written by group 60000")


@ROOT
def test_root_does_not_build_in_anothers_folder(tmp_path: Path) -> None:
    """The command's own words, as after `sudo` with a home that stays the user's."""
    state = owned(tmp_path / "state", 1000, 0o755)
    done = subprocess.run(
        [sys.executable, "-m", "invoke", "--search-root", Path(__file__).parents[1], "build"],
        env={**os.environ, "DINDKIT_STATE": str(state), "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"Others may swap what is built in {state}: it belongs to user 1000" in done.stderr
    assert "Traceback" not in done.stderr
