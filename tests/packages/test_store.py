"""Downloads from servers that misbehave, into a cache that others share."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from dindkit.errors import TrustError, UnavailableError
from dindkit.packages.lock import Row
from dindkit.packages.store import GoneError, Store, StoreError
from tests.packages.conftest import HURRY, Place
from tests.support.archive import Pin, make_project, serve

NAMES = [f"package-{number}" for number in range(7)]


@pytest.fixture
def rows(place: Place) -> list[Row]:
    for name in NAMES:
        place.archive.add_deb(name, files={"usr/share/filler": os.urandom(20_000)})
    return [
        Row(
            name=one["Package"],
            version=one["Version"],
            architecture=one["Architecture"],
            size=int(one["Size"]),
            sha256=one["SHA256"],
            path=one["Filename"],
            archive="debian",
            why="requested",
        )
        for one in place.archive.stanzas
    ]


def fetch(place: Place, rows: list[Row], **snapshots: str) -> dict[Row, Path]:
    return place.store.fetch(rows, place.keys, place.progress, snapshots)


def named_files(place: Place) -> set[str]:
    """Return the names of all files that look whole."""
    return {path.name for path in (place.project.cache / "sha256").rglob("*") if path.is_file()}


def partial_files(place: Place) -> list[Path]:
    return list((place.project.cache / "partial").rglob("*"))


def test_every_row_gets_its_file(place: Place, rows: list[Row]) -> None:
    files = fetch(place, rows)
    assert {row: path.read_bytes() for row, path in files.items()} == {
        row: (place.archive.folder / row.path).read_bytes() for row in rows
    }
    assert "7 packages, " in place.said.getvalue()
    assert not partial_files(place)


def test_second_fetch_asks_nobody(place: Place, rows: list[Row]) -> None:
    fetch(place, rows)
    place.server.requests.clear()
    fetch(place, rows)
    assert not place.server.requests


def test_damaged_file_in_the_cache_is_fetched_again(place: Place, rows: list[Row]) -> None:
    path = fetch(place, rows)[rows[0]]
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert fetch(place, rows)[rows[0]].read_bytes() == data


def test_flipped_byte_in_a_deb(place: Place, rows: list[Row]) -> None:
    place.server.faults.flip.add(place.archive.path("package-3"))
    with pytest.raises(TrustError, match=r"package-3 1\.0 with SHA-256 \w+ instead of \w+"):
        fetch(place, rows)
    assert rows[3].sha256 not in named_files(place)
    assert not partial_files(place)


def test_hash_changed_in_the_lock(place: Place, rows: list[Row]) -> None:
    with pytest.raises(TrustError, match="package-0"):
        fetch(place, [replace(rows[0], sha256="0" * 64)])


@pytest.mark.parametrize("extra", [-5, 1, 70_000])
def test_wrong_length(place: Place, rows: list[Row], extra: int) -> None:
    place.server.faults.longer[place.archive.path("package-2")] = extra
    with pytest.raises(
        UnavailableError, match=r"package-2 1\.0 cannot be had.*announces \d+ bytes instead of"
    ):
        fetch(place, rows)
    assert rows[2].sha256 not in named_files(place)


def test_truncated(place: Place, rows: list[Row]) -> None:
    place.server.faults.truncate.add(place.archive.path("package-2"))
    with pytest.raises(UnavailableError, match=r"package-2 1\.0 cannot be had"):
        fetch(place, rows)
    assert rows[2].sha256 not in named_files(place)
    assert not partial_files(place)


def test_cut_short_without_a_length(place: Place, rows: list[Row]) -> None:
    place.server.faults.cut.add(place.archive.path("package-2"))
    with pytest.raises(UnavailableError, match=r"ended after \d+ of \d+ bytes"):
        fetch(place, rows)


def test_stalling(place: Place, rows: list[Row]) -> None:
    place.server.faults.stall.add(place.archive.path("package-2"))
    with pytest.raises(UnavailableError, match=r"package-2 1\.0 cannot be had.*timed out"):
        fetch(place, rows)


def test_dripping(place: Place, rows: list[Row]) -> None:
    """Never silent for long, and yet never done."""
    place.server.faults.drip.add(place.archive.path("package-2"))
    store = Store(place.project.cache, replace(HURRY, slowest=100_000, tries=1))
    with pytest.raises(UnavailableError, match="arrives too slowly"):
        store.fetch(rows[2:3], place.keys, place.progress)


def test_endless(place: Place, rows: list[Row]) -> None:
    place.server.faults.endless.add(place.archive.path("package-2"))
    with pytest.raises(UnavailableError, match=r"sends more than \d+ bytes"):
        fetch(place, rows)


@pytest.mark.parametrize("every", [2, 3])
def test_replies_dropped(place: Place, rows: list[Row], every: int) -> None:
    place.server.faults.drop_every = every
    assert len(fetch(place, rows)) == len(rows)
    assert len(place.server.requests) > len(rows)


def test_passing_trouble_is_sat_out(place: Place, rows: list[Row]) -> None:
    place.server.faults.status[place.archive.path("package-1")] = [503, 429]
    assert len(fetch(place, rows)) == len(rows)


def test_lasting_trouble_is_not(place: Place, rows: list[Row]) -> None:
    place.server.faults.status[place.archive.path("package-1")] = [403]
    with pytest.raises(UnavailableError, match="answers 403"):
        fetch(place, rows)
    assert place.server.requests.count(place.archive.path("package-1")) == 1


def test_all_that_is_gone_is_named(place: Place, rows: list[Row]) -> None:
    place.server.faults.gone |= {place.archive.path("package-1"), place.archive.path("package-5")}
    with pytest.raises(GoneError, match=r"every address .*: package-1 1\.0, package-5 1\.0\. Run") as caught:
        fetch(place, rows)
    assert caught.value.rows == (rows[1], rows[5])
    assert named_files(place) == {row.sha256 for row in rows} - {rows[1].sha256, rows[5].sha256}


def test_gone_file_is_found_at_the_snapshot_of_the_time(
    place: Place, rows: list[Row], tmp_path: Path
) -> None:
    kept = tmp_path / "snapshot" / "20260101T000000Z" / rows[4].path
    kept.parent.mkdir(parents=True)
    kept.write_bytes((place.archive.folder / rows[4].path).read_bytes())
    place.server.faults.gone.add(place.archive.path("package-4"))
    with serve(tmp_path / "snapshot") as service:
        pin = Pin("debian", place.archive, place.server.url, snapshot=f"{service.url}/{{time}}")
        place.project = make_project(tmp_path / "with-snapshot", pin)
        assert len(fetch(place, rows, debian="20260101T000000Z")) == len(rows)
        assert service.requests == [f"/20260101T000000Z/{rows[4].path}"]
        place.project = make_project(tmp_path / "another-time", pin)
        with pytest.raises(GoneError, match=r"Gone from every address .*: package-4 1\.0\. Run: invoke lock"):
            fetch(place, rows, debian="20250101T000000Z")


def test_gone_is_gone_even_where_the_snapshot_service_is_down(
    place: Place, rows: list[Row], tmp_path: Path
) -> None:
    place.server.faults.gone.add(place.archive.path("package-4"))
    pin = Pin("debian", place.archive, place.server.url, snapshot="http://127.0.0.1:1/{time}")
    place.project = make_project(tmp_path / "other", pin)
    expected = r"another fails: package-4 1\.0 \(http://127\S+ .* refused\)\)\. Try again later"
    with pytest.raises(GoneError, match=expected):
        fetch(place, rows, debian="20260101T000000Z")


def test_gone_is_gone_even_where_the_snapshot_service_fails(
    place: Place, rows: list[Row], tmp_path: Path
) -> None:
    place.server.faults.gone |= {place.archive.path("package-2"), place.archive.path("package-4")}
    with serve(tmp_path / "snapshot") as service:
        service.faults.status[f"/20260101T000000Z/{rows[4].path}"] = [503] * HURRY.tries
        pin = Pin("debian", place.archive, place.server.url, snapshot=f"{service.url}/{{time}}")
        place.project = make_project(tmp_path / "other", pin)
        expected = r"another fails: package-2 1\.0, package-4 1\.0 \(\S+ answers 503 .*\)\. Try again later"
        with pytest.raises(GoneError, match=expected):
            fetch(place, rows, debian="20260101T000000Z")


def test_nobody_answers(place: Place, rows: list[Row], tmp_path: Path) -> None:
    place.project = make_project(tmp_path / "other", Pin("debian", place.archive, "http://127.0.0.1:1"))
    with pytest.raises(UnavailableError, match="cannot be had") as caught:
        fetch(place, rows)
    assert not isinstance(caught.value, GoneError)


def test_second_address_makes_up_for_a_lying_first(place: Place, rows: list[Row], tmp_path: Path) -> None:
    with serve(place.archive.folder) as liar:
        liar.faults.flip.add(place.archive.path("package-6"))
        place.project = make_project(
            tmp_path / "other", Pin("debian", place.archive, [liar.url, place.server.url])
        )
        assert len(fetch(place, rows)) == len(rows)


def test_two_builds_at_once(place: Place, rows: list[Row]) -> None:
    failures: list[BaseException] = []

    def one() -> None:
        try:
            assert len(fetch(place, rows)) == len(rows)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert named_files(place) == {row.sha256 for row in rows}


def test_remains_of_a_killed_download_are_swept(place: Place, rows: list[Row]) -> None:
    old = place.project.cache / "partial" / "old"
    recent = place.project.cache / "partial" / "recent"
    for folder in (old, recent):
        folder.mkdir(parents=True)
    os.utime(old, (0, 0))
    fetch(place, rows)
    assert not old.exists()
    assert recent.exists()


#: Fetches in a process of its own: arguments are the project, then name, size, hash and path of one row.
CHILD = """
import signal, sys
from dindkit.command_line import _terminated
from dindkit.packages import keys
from dindkit.packages.lock import Row
from dindkit.packages.store import Store
from dindkit.progress import Progress
from dindkit.project import Project
from pathlib import Path

signal.signal(signal.SIGTERM, _terminated)
root, name, size, sha256, path = sys.argv[1:]
project = Project(Path(root), Path(root, "state"), Path(root, "cache"))
row = Row(name, "1.0", "all", int(size), sha256, path, "debian", "requested")
try:
    Store(project.cache).fetch([row], keys.load(project.keys), Progress())
except Exception as error:
    print(type(error).__name__, error)
    sys.exit(1)
"""


def child(place: Place, row: Row) -> list[str]:
    words = [place.project.root, row.name, row.size, row.sha256, row.path]
    return [sys.executable, "-c", CHILD, *map(str, words)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_leaves_nothing(place: Place, rows: list[Row], number: signal.Signals) -> None:
    """In the middle of a file, from a server that has fallen silent."""
    place.server.faults.stall.add(place.archive.path("package-2"))
    process = subprocess.Popen(child(place, rows[2]), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    while not any(path.is_file() and path.stat().st_size for path in partial_files(place)):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    process.communicate(timeout=10)
    assert process.returncode != 0
    assert not partial_files(place)
    assert not named_files(place)


def test_full_disk_is_a_sentence(place: Place, rows: list[Row]) -> None:
    """A cache on a file system of 8 kB, in a mount namespace that ends with the process."""
    place.project.cache.mkdir()
    small = f'mount -t tmpfs -o size=8k tmpfs "{place.project.cache}" && exec "$@"'
    words = ["unshare", "--map-root-user", "--mount", "sh", "-c", small, "sh", *child(place, rows[0])]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    expected = rf"{StoreError.__name__} No space is left in \S+ for package-0 1\.0\. Free some, .*\n"
    assert re.fullmatch(expected, done.stdout)
