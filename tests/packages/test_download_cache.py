"""Downloads from servers that misbehave, into a cache that others share."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from dindkit.errors import TrustError, UnavailableError
from dindkit.packages.download_cache import DownloadCache, GoneError, StoreError, Wanted
from dindkit.packages.lock import Row
from tests.packages.conftest import HURRY, ServedArchive
from tests.support.archive import Pin, make_project, serve

NAMES = [f"package-{number}" for number in range(7)]


@pytest.fixture
def rows(served: ServedArchive) -> list[Row]:
    for name in NAMES:
        served.archive.add_deb(name, files={"usr/share/filler": os.urandom(20_000)})
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
        for one in served.archive.stanzas
    ]


def fetch(served: ServedArchive, rows: list[Row], **snapshots: str) -> dict[Row, Path]:
    return served.store.fetch(rows, served.keys, served.progress, snapshots)


def named_files(served: ServedArchive) -> set[str]:
    """Return the names of all files that look whole."""
    return {path.name for path in (served.project.cache / "sha256").rglob("*") if path.is_file()}


def partial_files(served: ServedArchive) -> list[Path]:
    return list((served.project.cache / "partial").rglob("*"))


def test_every_row_gets_its_file(served: ServedArchive, rows: list[Row]) -> None:
    files = fetch(served, rows)
    assert {row: path.read_bytes() for row, path in files.items()} == {
        row: (served.archive.folder / row.path).read_bytes() for row in rows
    }
    assert "7 packages, " in served.said.getvalue()
    assert not partial_files(served)


def test_second_fetch_asks_nobody(served: ServedArchive, rows: list[Row]) -> None:
    fetch(served, rows)
    served.server.requests.clear()
    fetch(served, rows)
    assert not served.server.requests


def test_damaged_file_in_the_cache_is_fetched_again(served: ServedArchive, rows: list[Row]) -> None:
    path = fetch(served, rows)[rows[0]]
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert fetch(served, rows)[rows[0]].read_bytes() == data


def test_flipped_byte_in_a_deb(served: ServedArchive, rows: list[Row]) -> None:
    served.server.faults.flip.add(served.archive.path("package-3"))
    with pytest.raises(TrustError, match=r"package-3 1\.0 with SHA-256 \w+ instead of \w+"):
        fetch(served, rows)
    assert rows[3].sha256 not in named_files(served)
    assert not partial_files(served)


def test_hash_changed_in_the_lock(served: ServedArchive, rows: list[Row]) -> None:
    with pytest.raises(TrustError, match="package-0"):
        fetch(served, [replace(rows[0], sha256="0" * 64)])


@pytest.mark.parametrize("extra", [-5, 1, 70_000])
def test_wrong_length(served: ServedArchive, rows: list[Row], extra: int) -> None:
    served.server.faults.longer[served.archive.path("package-2")] = extra
    with pytest.raises(
        UnavailableError, match=r"package-2 1\.0 cannot be had.*announces \d+ bytes instead of"
    ):
        fetch(served, rows)
    assert rows[2].sha256 not in named_files(served)


def test_truncated(served: ServedArchive, rows: list[Row]) -> None:
    served.server.faults.truncate.add(served.archive.path("package-2"))
    with pytest.raises(UnavailableError, match=r"package-2 1\.0 cannot be had"):
        fetch(served, rows)
    assert rows[2].sha256 not in named_files(served)
    assert not partial_files(served)


def test_cut_short_without_a_length(served: ServedArchive, rows: list[Row]) -> None:
    served.server.faults.cut.add(served.archive.path("package-2"))
    with pytest.raises(UnavailableError, match=r"ended after \d+ of \d+ bytes"):
        fetch(served, rows)


def test_stalling(served: ServedArchive, rows: list[Row]) -> None:
    served.server.faults.stall.add(served.archive.path("package-2"))
    with pytest.raises(UnavailableError, match=r"package-2 1\.0 cannot be had.*timed out"):
        fetch(served, rows)


def test_dripping(served: ServedArchive, rows: list[Row]) -> None:
    """Never silent for long, and yet never done."""
    served.server.faults.drip.add(served.archive.path("package-2"))
    store = DownloadCache(served.project.cache, replace(HURRY, slowest=100_000, tries=1))
    with pytest.raises(UnavailableError, match="arrives too slowly"):
        store.fetch(rows[2:3], served.keys, served.progress)


def test_endless(served: ServedArchive, rows: list[Row]) -> None:
    served.server.faults.endless.add(served.archive.path("package-2"))
    with pytest.raises(UnavailableError, match=r"sends more than \d+ bytes"):
        fetch(served, rows)


@pytest.mark.parametrize("every", [2, 3])
def test_replies_dropped(served: ServedArchive, rows: list[Row], every: int) -> None:
    served.server.faults.drop_every = every
    assert len(fetch(served, rows)) == len(rows)
    assert len(served.server.requests) > len(rows)


def test_passing_trouble_is_sat_out(served: ServedArchive, rows: list[Row]) -> None:
    served.server.faults.status[served.archive.path("package-1")] = [503, 429]
    assert len(fetch(served, rows)) == len(rows)


def test_lasting_trouble_is_not(served: ServedArchive, rows: list[Row]) -> None:
    served.server.faults.status[served.archive.path("package-1")] = [403]
    with pytest.raises(UnavailableError, match="answers 403"):
        fetch(served, rows)
    assert served.server.requests.count(served.archive.path("package-1")) == 1


def test_all_that_is_gone_is_named(served: ServedArchive, rows: list[Row]) -> None:
    served.server.faults.gone |= {served.archive.path("package-1"), served.archive.path("package-5")}
    with pytest.raises(GoneError, match=r"every address .*: package-1 1\.0, package-5 1\.0\. Run") as caught:
        fetch(served, rows)
    assert caught.value.rows == (rows[1], rows[5])
    assert named_files(served) == {row.sha256 for row in rows} - {rows[1].sha256, rows[5].sha256}


def test_gone_file_is_found_at_the_snapshot_of_the_time(
    served: ServedArchive, rows: list[Row], tmp_path: Path
) -> None:
    kept = tmp_path / "snapshot" / "20260101T000000Z" / rows[4].path
    kept.parent.mkdir(parents=True)
    kept.write_bytes((served.archive.folder / rows[4].path).read_bytes())
    served.server.faults.gone.add(served.archive.path("package-4"))
    with serve(tmp_path / "snapshot") as service:
        pin = Pin("debian", served.archive, served.server.url, snapshot=f"{service.url}/{{time}}")
        served.project = make_project(tmp_path / "with-snapshot", pin)
        assert len(fetch(served, rows, debian="20260101T000000Z")) == len(rows)
        assert service.requests == [f"/20260101T000000Z/{rows[4].path}"]
        served.project = make_project(tmp_path / "another-time", pin)
        with pytest.raises(GoneError, match=r"Gone from every address .*: package-4 1\.0\. Run: invoke lock"):
            fetch(served, rows, debian="20250101T000000Z")


def test_gone_is_gone_even_where_the_snapshot_service_is_down(
    served: ServedArchive, rows: list[Row], tmp_path: Path
) -> None:
    served.server.faults.gone.add(served.archive.path("package-4"))
    pin = Pin("debian", served.archive, served.server.url, snapshot="http://127.0.0.1:1/{time}")
    served.project = make_project(tmp_path / "other", pin)
    expected = r"another fails: package-4 1\.0 \(http://127\S+ .* refused\)\)\. Try again later"
    with pytest.raises(GoneError, match=expected):
        fetch(served, rows, debian="20260101T000000Z")


def test_gone_is_gone_even_where_the_snapshot_service_fails(
    served: ServedArchive, rows: list[Row], tmp_path: Path
) -> None:
    served.server.faults.gone |= {served.archive.path("package-2"), served.archive.path("package-4")}
    with serve(tmp_path / "snapshot") as service:
        service.faults.status[f"/20260101T000000Z/{rows[4].path}"] = [503] * HURRY.tries
        pin = Pin("debian", served.archive, served.server.url, snapshot=f"{service.url}/{{time}}")
        served.project = make_project(tmp_path / "other", pin)
        expected = r"another fails: package-2 1\.0, package-4 1\.0 \(\S+ answers 503 .*\)\. Try again later"
        with pytest.raises(GoneError, match=expected):
            fetch(served, rows, debian="20260101T000000Z")


def test_nobody_answers(served: ServedArchive, rows: list[Row], tmp_path: Path) -> None:
    served.project = make_project(tmp_path / "other", Pin("debian", served.archive, "http://127.0.0.1:1"))
    with pytest.raises(UnavailableError, match="cannot be had") as caught:
        fetch(served, rows)
    assert not isinstance(caught.value, GoneError)


def test_second_address_makes_up_for_a_lying_first(
    served: ServedArchive, rows: list[Row], tmp_path: Path
) -> None:
    with serve(served.archive.folder) as liar:
        liar.faults.flip.add(served.archive.path("package-6"))
        served.project = make_project(
            tmp_path / "other", Pin("debian", served.archive, [liar.url, served.server.url])
        )
        assert len(fetch(served, rows)) == len(rows)


def test_two_builds_at_once(served: ServedArchive, rows: list[Row]) -> None:
    failures: list[BaseException] = []

    def one() -> None:
        try:
            assert len(fetch(served, rows)) == len(rows)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert named_files(served) == {row.sha256 for row in rows}


def test_remains_of_a_killed_download_are_swept(served: ServedArchive, rows: list[Row]) -> None:
    old = served.project.cache / "partial" / "old"
    recent = served.project.cache / "partial" / "recent"
    for folder in (old, recent):
        folder.mkdir(parents=True)
    os.utime(old, (0, 0))
    fetch(served, rows)
    assert not old.exists()
    assert recent.exists()


#: Fetches in a process of its own: arguments are the project, then name, size, hash and path of one row.
CHILD = """
import signal, sys
from dindkit.command_line.failures import terminated
from dindkit.packages import keys
from dindkit.packages.lock import Row
from dindkit.packages.download_cache import DownloadCache
from dindkit.progress import Progress
from dindkit.project import Project
from pathlib import Path

signal.signal(signal.SIGTERM, terminated)
root, name, size, sha256, path = sys.argv[1:]
project = Project(Path(root), Path(root, "state"), Path(root, "cache"))
row = Row(name, "1.0", "all", int(size), sha256, path, "debian", "requested")
try:
    DownloadCache(project.cache).fetch([row], keys.load(project.keys), Progress())
except Exception as error:
    print(type(error).__name__, error)
    sys.exit(1)
"""


def child(served: ServedArchive, row: Row) -> list[str]:
    words = [served.project.root, row.name, row.size, row.sha256, row.path]
    return [sys.executable, "-c", CHILD, *map(str, words)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_leaves_nothing(served: ServedArchive, rows: list[Row], number: signal.Signals) -> None:
    """In the middle of a file, from a server that has fallen silent."""
    served.server.faults.stall.add(served.archive.path("package-2"))
    process = subprocess.Popen(child(served, rows[2]), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    while not any(path.is_file() and path.stat().st_size for path in partial_files(served)):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    process.communicate(timeout=10)
    assert process.returncode != 0
    assert not partial_files(served)
    assert not named_files(served)


def test_interrupt_leaves_nothing_of_a_thread(served: ServedArchive, rows: list[Row]) -> None:
    """A thread is left behind with its download, and has no time to delete anything."""
    served.server.faults.stall.add(served.archive.path("package-2"))
    row = rows[2]
    [address] = served.keys.archive("debian").uris
    wanted = Wanted(row.name, row.size, row.sha256, (f"{address}/{row.path}",))

    def obtain(store: DownloadCache) -> None:
        with suppress(UnavailableError, StoreError, OSError):
            store.obtain(wanted)

    def leave_a_thread() -> None:
        with served.store.in_one_workspace() as shared:
            threads.append(threading.Thread(target=obtain, args=(shared,)))
            threads[0].start()
            while not any(path.is_file() and path.stat().st_size for path in partial_files(served)):
                assert threads[0].is_alive()
                time.sleep(0.01)
            raise KeyboardInterrupt

    threads: list[threading.Thread] = []
    with pytest.raises(KeyboardInterrupt):
        leave_a_thread()
    assert not partial_files(served)
    threads[0].join()
    assert not partial_files(served)


def test_full_disk_is_a_sentence(served: ServedArchive, rows: list[Row]) -> None:
    """A cache on a file system of 8 kB, in a mount namespace that ends with the process."""
    served.project.cache.mkdir()
    small = f'mount -t tmpfs -o size=8k tmpfs "{served.project.cache}" && exec "$@"'
    words = ["unshare", "--map-root-user", "--mount", "sh", "-c", small, "sh", *child(served, rows[0])]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    expected = rf"{StoreError.__name__} No space is left in \S+ for package-0 1\.0\. Free some, .*\n"
    assert re.fullmatch(expected, done.stdout)


READ_ONLY = """
import sys
from tests.packages.conftest import HURRY
from dindkit.errors import DindkitError
from dindkit.packages.download_cache import DownloadCache, Wanted
from pathlib import Path
for digest in sys.argv[2:]:
    try:
        print(DownloadCache(Path(sys.argv[1]), HURRY).obtain(Wanted("file", 3, digest, ("http://127.0.0.1:9/x",))).name)
    except DindkitError as error:
        print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts the cache read-only, as root alone may")
def test_a_cache_that_cannot_be_written_is_read(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"abc").hexdigest()
    path = DownloadCache(tmp_path).path(digest)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"abc")
    script = 'mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"; shift; exec "$@"'
    program = [sys.executable, "-c", READ_ONLY, str(tmp_path), digest, "0" * 64]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-euc", script, "sh", str(tmp_path), *program],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    said = (
        f"Nothing can be written in {tmp_path}: Read-only file system. Let DINDKIT_CACHE name another folder."
    )
    assert done.stdout.splitlines() == [digest, said], done.stderr
