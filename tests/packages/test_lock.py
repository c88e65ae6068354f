"""The lock as a file: what is written is what is read, and what cannot be true is refused."""

from __future__ import annotations

import os
import re
import time
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from dindkit.errors import RecipeError
from dindkit.packages import lock
from dindkit.packages.lock import Expected, Lock, ReleaseRecord, Row

DIGEST = "0123456789abcdef" * 4


def row(name: str, version: str = "1.0", why: str = "requested", **fields: str) -> Row:
    plain = Row(name, version, "amd64", 1234, DIGEST, f"pool/{name}_{version}_amd64.deb", "debian", why)
    return replace(plain, **fields)  # type: ignore[arg-type]


ORIGIN = ReleaseRecord("debian", "trixie", 1_700_000_000, DIGEST, "A" * 40, "20231115T101320Z")

LOCK = Lock(
    image="dind",
    suite="trixie",
    architecture="amd64",
    engine="docker.io",
    parent=DIGEST,
    epoch=1_700_000_000,
    archives=(ORIGIN, replace(ORIGIN, suite="trixie-updates")),
    rows=(row("app", "2:1.0-1+b1"), row("lib", "1.0~rc1", why="app"), row("sh", why="essential")),
    expected=Expected(f"sha256:{DIGEST}", (f"sha256:{DIGEST}", f"sha256:{DIGEST}")),
)


@pytest.mark.parametrize("one", [LOCK, replace(LOCK, expected=None), replace(LOCK, rows=())])
def test_what_is_written_is_read(tmp_path: Path, one: Lock) -> None:
    path = tmp_path / "new" / "trixie-amd64.lock"
    lock.write(one, path)
    assert lock.read(path) == one


def test_one_line_for_each_row_whatever_the_order() -> None:
    text = lock.render(replace(LOCK, rows=LOCK.rows[::-1], archives=LOCK.archives[::-1]))
    assert text == lock.render(LOCK)
    lines = [line for line in text.splitlines() if line.startswith("  { name = ")]
    assert [re.findall(r'name = "(\w+)"', line) for line in lines] == [["app"], ["lib"], ["sh"]]
    assert tomllib.loads(text)["packages"][0]["size"] == 1234


def test_no_address_in_a_lock() -> None:
    assert "://" not in lock.render(LOCK)


def test_a_family_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new, none = tmp_path / "a.lock", tmp_path / "b.lock", tmp_path / "c.lock"
    lock.write(LOCK, old)
    lock.write(LOCK, new)
    rename, renamed = Path.replace, []

    def interrupted(source: Path, target: Path) -> Path:
        renamed.append(target)
        if len(renamed) == 2:
            raise KeyboardInterrupt
        return rename(source, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    after = replace(LOCK, rows=())
    with pytest.raises(KeyboardInterrupt):
        lock.write_all({none: after, new: after, old: after})
    assert lock.read(old) == lock.read(new) == LOCK
    assert sorted(tmp_path.iterdir()) == [old, new]


@pytest.mark.parametrize(
    ("found", "put"),
    [
        (r"  { name = \"lib\".*\n", ""),
        ("[0-9a-f]{64}", "0" * 64),
        ('why = "app"', 'why = "requested"'),
        ('suite = "trixie"', 'suite = "sid"'),
        ("epoch = 1", "epoch = 2"),
        ("(identity = ).*", r"\1" + '"' + "0" * 64 + '"'),
    ],
)
def test_a_lock_changed_by_hand(tmp_path: Path, found: str, put: str) -> None:
    path = tmp_path / "x.lock"
    text, count = re.subn(found, put, lock.render(LOCK))
    assert count
    path.write_text(text)
    with pytest.raises(RecipeError, match=r"x\.lock was changed by hand.*Restore it with git"):
        lock.read(path)


def test_failed_write_leaves_the_old_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.lock"
    lock.write(LOCK, path)

    def fail(_descriptor: int) -> None:
        raise OSError("no space")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        lock.write(replace(LOCK, rows=()), path)
    assert lock.read(path) == LOCK
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ((row("app"), row("app", "2.0")), "app has two rows"),
        ((row("app", sha256="abc"),), "the sha256 of app is malformed"),
        ((row("app", sha256=DIGEST.upper()),), "the sha256 of app is malformed"),
        ((row("app", path="../../etc/passwd"),), "leads out of the archive"),
        ((row("app", path="/etc/passwd"),), "leads out of the archive"),
        ((row("app", path="pool/a b.deb"),), "the path of app is malformed"),
        ((row("app", version="1.0; true"),), "the version of app is malformed"),
        ((row("../app"),), "the name of ../app is malformed"),
        ((replace(row("app"), size=0),), "the size of app is 0"),
        ((row("app", archive="mallory"),), "from the archive mallory, which the lock does not list"),
        ((row("app"), row("extra", why="nonesuch")), "nothing asks for extra"),
        ((row("one", why="two"), row("two", why="one")), "nothing asks for one"),
    ],
)
def test_impossible_rows(tmp_path: Path, rows: tuple[Row, ...], complaint: str) -> None:
    path = tmp_path / "x.lock"
    lock.write(replace(LOCK, rows=rows), path)
    with pytest.raises(RecipeError, match=complaint):
        lock.read(path)


def test_a_chain_of_many_packages_is_followed_once() -> None:
    """An index can have thirty thousand, each needed by the one before; a walk for each takes minutes."""
    names = [f"p{number:05}" for number in range(20_000)]
    whys = ["requested", *names]
    rows = tuple(row(name, why=why) for name, why in zip(names, whys, strict=False))
    begun = time.process_time()
    assert list(lock.complaints(replace(LOCK, rows=rows[::-1]))) == []
    assert list(lock.complaints(replace(LOCK, rows=rows))) == []
    assert time.process_time() - begun < 10


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("size = 1234", 'size = "1234"'),
        ("epoch = 1700000000", 'epoch = "1700000000"'),
        ('suite = "trixie"\n', ""),
        ('suite = "trixie"\n', 'suite = "trixie"\nbogus = 1\n'),
        ("packages = [", "packages = ["[:-1]),
        ('image = "dind"', "image = [1]"),
        ("archives = [", "archives = 7\nother = ["),
        ("date = 2023", 'date = "2023'),
        ("epoch = 1700000000", f"epoch = {'1' * 5000}"),
        ("epoch = 1700000000", f"epoch = {'[' * 500}{']' * 500}"),
        (f'image_id = "sha256:{DIGEST}"', "image_id = 0001-01-01T00:00:00Z"),
        (f'image_id = "sha256:{DIGEST}"', f'image_id = "{DIGEST}"'),
        ("diff_ids = [", "diff_ids = [1, "),
        ("date = 2023-11-14T22:13:20Z", "date = 0001-01-01T00:00:00+23:59"),
        ("date = 2023-11-14T22:13:20Z", "date = 9999-12-31T23:59:59-23:59"),
        ("diff_ids = [", 'other = 1, diff_ids = ["'),
    ],
)
def test_not_a_lock(tmp_path: Path, old: str, new: str) -> None:
    text = lock.render(LOCK)
    assert old in text
    path = tmp_path / "x.lock"
    path.write_text(text.replace(old, new))
    with pytest.raises(RecipeError, match=r"x\.lock is not a lock"):
        lock.read(path)


@pytest.mark.parametrize("value", ["{}", "false", '""', "[]", "{ image_id = 1, diff_ids = [] }"])
def test_ids_that_are_none_are_not_passed_over(tmp_path: Path, value: str) -> None:
    path = tmp_path / "x.lock"
    text, count = re.subn(r"(?m)^expected = .*$", f"expected = {value}", lock.render(LOCK))
    assert count == 1
    path.write_text(text)
    with pytest.raises(RecipeError, match=r"x\.lock is not a lock"):
        lock.read(path)


def test_no_lock(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"There is no lock.*invoke lock"):
        lock.read(tmp_path / "x.lock")


def test_difference_names_what_changed() -> None:
    new = replace(
        LOCK,
        rows=(row("app", "2:1.0-2"), row("lib", "1.0~beta"), row("new"), row("sh", sha256="f" * 64)),
    )
    old = replace(LOCK, rows=(*LOCK.rows, row("old"), row("same")))
    changes = lock.difference(old, replace(new, rows=(*new.rows, row("same"))))
    assert [str(change) for change in changes] == [
        "upgraded   app 2:1.0-1+b1 -> 2:1.0-2",
        "downgraded lib 1.0~rc1 -> 1.0~beta",
        "added      new 1.0",
        "removed    old 1.0",
        "rebuilt    sh 1.0 -> 1.0",
    ]


def test_difference_to_nothing_is_all_of_it() -> None:
    assert [change.kind for change in lock.difference(None, LOCK)] == ["added"] * 3
    assert lock.difference(LOCK, LOCK) == []
