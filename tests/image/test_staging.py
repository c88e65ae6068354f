"""Packages that wait to be checked: the one that takes longest must not come last, when all else is done."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dindkit.errors import TrustError
from dindkit.formats.contents import ContentStore
from dindkit.image import assemble
from dindkit.image.staging import Staging
from dindkit.progress import Step
from tests.image.test_hostile import hostile
from tests.support.local_project import LocalProject, publish_greeter, tree_of


def test_what_waits_is_checked_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    order, check, free = list[str](), Staging._check_next, threading.Event()
    with Staging(tmp_path / "staging") as staging:

        def recorded(one: Staging) -> None:
            assert free.wait(60)
            order.append(one._waiting.queue[0][1].name)
            check(one)

        monkeypatch.setattr(Staging, "_check_next", recorded)
        files = {name: hostile(name, {f"usr/share/{name}": "x"}, tmp_path) for name in "cabd"}
        staging.arrange(row for name in "abcd" for row in files[name])
        begun = {row: path for found in files.values() for row, path in found.items()}
        for row, path in begun.items():
            staging.begin(row, path)
        free.set()
        debs = staging.checked(begun, Step(None, None))
    assert order == list("abcd")
    assert [one.name for one in debs] == list("abcd")


def test_a_check_that_fails_is_told_where_it_is_asked_for(tmp_path: Path) -> None:
    files = hostile("good", {"usr/share/good": "x"}, tmp_path)
    other = {replace(row, name="other", size=row.size - 1): path for row, path in files.items()}
    with Staging(tmp_path / "staging") as staging:
        for row, path in {**other, **files}.items():
            staging.begin(row, path)
        assert [one.name for one in staging.checked(files, Step(None, None))] == ["good"]
        with pytest.raises(TrustError, match="other was changed after it was downloaded"):
            staging.checked(other, Step(None, None))


def flip(path: Path, what: bytes, behind: int = 0) -> None:
    """Change one bit of a file, `behind` bytes from where `what` begins; its size and time stay."""
    status, content = path.stat(), bytearray(path.read_bytes())
    at = content.index(what) + behind
    content[at] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def replaced(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


#: What can happen to a checked package in the folder of a build.
CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda path: flip(path, b"MARKED"),
    "control": lambda path: flip(path, b"Description"),
    "head of a member": lambda path: flip(path, b"data.tar"),
    "size of a member": lambda path: flip(path, b"data.tar", 48),
    "end of a head": lambda path: flip(path, b"`\n"),
    "beginning": lambda path: flip(path, b"!<arch>"),
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\n"),
    "empty": lambda path: path.write_bytes(b""),
    "gone": lambda path: path.unlink(),
    "a folder": lambda path: replaced(path, Path.mkdir),
    "a pipe": lambda path: replaced(path, os.mkfifo),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_checked_package_is_held_to_what_was_checked(
    tmp_path: Path, change: Callable[[Path], object]
) -> None:
    files = hostile("good", {"usr/share/good": "MARKED"}, tmp_path)
    with Staging(tmp_path / "staging") as staging:
        for row, path in files.items():
            staging.begin(row, path)
        (one,) = staging.checked(files, Step(None, None))
        staging.hold(files)()
        shutil.copy2(one.file, tmp_path / "copy")
        change(one.file)
        with pytest.raises(TrustError, match="The checked package good was changed while the image was"):
            staging.hold(files)()
        if one.file.is_dir():
            one.file.rmdir()
        os.replace(tmp_path / "copy", one.file)  # noqa: PTH105
        staging.hold(files)()


@pytest.mark.parametrize("change", ["content", "control", "cut short", "gone"])
def test_nothing_is_kept_of_a_build_whose_checked_package_was_changed(
    local_project: LocalProject,
    contents: ContentStore,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
) -> None:
    """Neither where dpkg takes what it finds, nor where it fails, and says something else."""
    publish_greeter(local_project, "6.0", files={"usr/bin/greet": "MARKED"})
    local_project.lock()
    right, changed = assemble.prepare, list[Path]()

    def wrong(*arguments: object) -> None:
        for path in local_project.project.state.glob("tmp/*/packages/.all/greeter_*.deb"):
            CHANGES[change](path)
            changed.append(path)
        right(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(assemble, "prepare", wrong)
    for _ in range(2):
        with pytest.raises(TrustError, match="The checked package greeter was changed while the image was"):
            local_project.build()
    assert len(changed) == 2
    monkeypatch.setattr(assemble, "prepare", right)
    assert tree_of(local_project.build(), contents).text("usr/bin/greet") == "MARKED"
