"""InRelease and Packages: what is signed, current, of the right suite and strongly hashed, or nothing."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dindkit.errors import TrustError, UnavailableError
from dindkit.packages import keys, release
from dindkit.packages.keys import Archive
from tests.packages.conftest import ServedArchive
from tests.support.archive import Pin, make_project, serve

HOUR = 3600
INDEX = "main/binary-amd64/Packages"


def replace_index(served: ServedArchive, old: bytes, new: bytes) -> None:
    """Put `new` where `old` is served, under every name."""
    for path in (served.archive.folder / "dists").rglob("*"):
        if path.is_file() and path.read_bytes() == old:
            path.write_bytes(new)


def served_index(served: ServedArchive) -> bytes:
    return (served.archive.folder / f"dists/trixie/{INDEX}.xz").read_bytes()


def test_flipped_byte_in_inrelease(served: ServedArchive) -> None:
    served.archive.publish("trixie")
    served.server.faults.flip.add("/dists/trixie/InRelease")
    with pytest.raises(TrustError, match="InRelease of debian trixie"):
        served.fetch_indexes()


@pytest.mark.parametrize("by_hash", [True, False])
def test_flipped_byte_in_packages(served: ServedArchive, by_hash: bool) -> None:
    served.archive.add_deb("app")
    served.archive.publish("trixie", by_hash=by_hash)
    index = served_index(served)
    replace_index(served, index, index[:-20] + bytes([index[-20] ^ 1]) + index[-19:])
    with pytest.raises(TrustError, match=r"Packages of debian trixie with SHA-256 \w+ instead of \w+"):
        served.fetch_indexes()
    assert not served.store.holds(hashlib.sha256(index).hexdigest())


def test_index_of_another_suite_under_the_same_name(served: ServedArchive) -> None:
    served.archive.add_deb("app", "1")
    served.archive.publish("sid")
    other = (served.archive.folder / f"dists/sid/{INDEX}.xz").read_bytes()
    served.archive.add_deb("app", "2")
    served.archive.publish("trixie")
    replace_index(served, served_index(served), other)
    with pytest.raises((TrustError, UnavailableError), match="Packages of debian trixie"):
        served.fetch_indexes()


def test_inrelease_of_another_suite(served: ServedArchive) -> None:
    data = served.archive.publish("sid").read_bytes()
    with pytest.raises(TrustError, match="another suite"):
        served.verify(data)


def test_codename_is_a_name_too(served: ServedArchive) -> None:
    data = served.archive.publish("trixie", fields={"Suite": "stable"}).read_bytes()
    assert served.verify(data).record.suite == "trixie"


def test_expired_is_refused_unless_allowed_and_then_loud(served: ServedArchive) -> None:
    served.archive.publish("trixie", date=time.time() - 9 * HOUR, valid_for=HOUR)
    with pytest.raises(TrustError, match="has expired"):
        served.fetch_indexes()
    assert served.fetch_indexes(allow_expired=True).records
    assert "warning: InRelease of debian trixie was valid until" in served.said.getvalue()


@pytest.mark.parametrize("name", ["valid-until", "VALID-UNTIL", "Valid-until"])
def test_expired_in_any_case_of_the_name(served: ServedArchive, name: str) -> None:
    """As apt reads it: a mirror may not turn a freeze into a suite that never expires."""
    data = served.archive.publish("trixie", fields={name: "Sat, 01 Jan 2022 00:00:00 UTC"}).read_bytes()
    with pytest.raises(TrustError, match="has expired"):
        served.verify(data)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Suite:", b"Valid-Until : Sat, 01 Jan 2022 00:00:00 UTC\nSuite:"),
        (b"Suite:", b"Date: Sat, 01 Jan 2022 00:00:00 UTC\nSuite:"),
        (b"Suite:", b"date: Sat, 01 Jan 2022 00:00:00 UTC\nSuite:"),
        (b"Suite:", b"\rValid-Until: Sat, 01 Jan 2022 00:00:00 UTC\nSuite:"),
        (b"Suite:", b"noise\nSuite:"),
        (b"SHA256:", b"\nSHA256:"),  # apt reads the first stanza
    ],
)
def test_fields_that_apt_would_read_in_another_way(served: ServedArchive, old: bytes, new: bytes) -> None:
    data = served.archive.publish("trixie", change=lambda text: text.replace(old, new, 1)).read_bytes()
    with pytest.raises(
        TrustError, match=r"InRelease of debian trixie is refused: (it has|the line|it holds|blanks)"
    ):
        served.verify(data)


@pytest.mark.parametrize(
    "line",
    ["0" * 64 + " 5\n main/x", "0" * 64 + " \u0665 main/x", "0" * 63 + " 5 main/x", "0" * 64 + " 5 main/ x"],
)
def test_a_list_of_files_that_is_not_one_a_line(served: ServedArchive, line: str) -> None:
    change = f"SHA256:\n {line}\n".encode()
    data = served.archive.publish(
        "trixie", change=lambda text: text.replace(b"SHA256:\n", change)
    ).read_bytes()
    with pytest.raises(TrustError, match="lists a file in a way that is not understood"):
        served.verify(data)


def test_a_file_that_is_listed_twice(served: ServedArchive) -> None:
    def twice(text: bytes) -> bytes:
        return text.replace(b"SHA256:\n", b"SHA256:\n " + b"0" * 64 + b" 5 main/binary-amd64/Packages\n")

    with pytest.raises(TrustError, match="lists a file in a way that is not understood"):
        served.verify(served.archive.publish("trixie", change=twice).read_bytes())


def test_valid_until_in_the_future_is_silent(served: ServedArchive) -> None:
    served.archive.publish("trixie", valid_for=HOUR)
    served.fetch_indexes()
    assert "warning" not in served.said.getvalue()


def test_replay_of_an_older_inrelease(served: ServedArchive) -> None:
    served.archive.add_deb("app")
    served.archive.publish("trixie", date=1_700_000_000)
    lock = served.lock("app")
    served.lock("app", old=lock)  # the same one again is no replay
    served.archive.publish("trixie", date=1_699_999_999)
    with pytest.raises(TrustError, match="older than the one that the lock was made from"):
        served.lock("app", old=lock)


def test_date_in_the_future(served: ServedArchive) -> None:
    data = served.archive.publish("trixie", date=time.time() + 48 * HOUR).read_bytes()
    with pytest.raises(TrustError, match="in the future"):
        served.verify(data)


@pytest.mark.parametrize("date", ["", "yesterday"])
def test_no_readable_date(served: ServedArchive, date: str) -> None:
    data = served.archive.publish("trixie", fields={"Date": date}).read_bytes()
    with pytest.raises(TrustError, match="no readable Date"):
        served.verify(data)


@pytest.mark.parametrize("hashes", [["MD5Sum"], ["SHA1"], ["MD5Sum", "SHA1"], []])
def test_weak_hashes_only(served: ServedArchive, hashes: list[str]) -> None:
    data = served.archive.publish("trixie", hashes=hashes).read_bytes()
    with pytest.raises(TrustError, match="no SHA-256"):
        served.verify(data)


compressed = pytest.mark.parametrize(
    ("suffix", "compress"), [(".xz", lzma.compress), (".gz", gzip.compress)], ids=["xz", "gz"]
)


def publish_compressed(served: ServedArchive, suffix: str, index: bytes) -> None:
    """List and serve `index` as the only compressed one; the plain one is listed as it is."""
    entry = f" {hashlib.sha256(index).hexdigest()} {len(index)} {INDEX}{suffix}\n"

    def change(text: bytes) -> bytes:
        kept = [line for line in text.decode().splitlines(keepends=True) if not line.endswith(".xz\n")]
        return "".join([*kept, entry]).encode()

    served.archive.publish("trixie", change=change, by_hash=False)
    (served.archive.folder / f"dists/trixie/{INDEX}{suffix}").write_bytes(index)


@compressed
def test_compressions(served: ServedArchive, suffix: str, compress: Callable[[bytes], bytes]) -> None:
    served.archive.add_deb("app")
    served.archive.publish("trixie")
    publish_compressed(
        served, suffix, compress((served.archive.folder / f"dists/trixie/{INDEX}").read_bytes())
    )
    assert [one.version for one in served.fetch_indexes().package_index.versions("app")] == ["1.0"]
    assert served.server.requests == ["/dists/trixie/InRelease", f"/dists/trixie/{INDEX}{suffix}"]


@compressed
def test_damaged_compression(served: ServedArchive, suffix: str, compress: Callable[[bytes], bytes]) -> None:
    publish_compressed(served, suffix, compress(b"Package: app\n")[2:])
    with pytest.raises(TrustError, match=r"Packages of debian trixie cannot be unpacked"):
        served.fetch_indexes()


@compressed
def test_decompression_bomb(served: ServedArchive, suffix: str, compress: Callable[[bytes], bytes]) -> None:
    """Both InRelease and hash are right, but the index unpacks to more than InRelease says."""
    publish_compressed(served, suffix, compress(bytes(5_000_000)))
    with pytest.raises(TrustError, match="is not what InRelease lists"):
        served.fetch_indexes()


@compressed
def test_bomb_is_not_unpacked_beyond_its_listed_size(suffix: str, compress: Callable[[bytes], bytes]) -> None:
    assert len(release._UNPACK[suffix](compress(bytes(5_000_000)), 1000, "Packages")) == 1001


def test_index_listed_as_enormous(served: ServedArchive) -> None:
    def lie(text: bytes) -> bytes:
        return text.replace(b" 0 main/binary-amd64/Packages\n", b" 9000000000 main/binary-amd64/Packages\n")

    served.archive.publish("trixie", change=lie)
    with pytest.raises(TrustError, match="would unpack to 9000000000 bytes"):
        served.fetch_indexes()


def test_endless_inrelease(served: ServedArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "LARGEST_INRELEASE", 200_000)
    served.server.faults.endless.add("/dists/trixie/InRelease")
    with pytest.raises(UnavailableError, match="sends more than 200000 bytes"):
        served.fetch_indexes()


def test_by_hash_is_asked_first_and_the_plain_name_helps_out(served: ServedArchive) -> None:
    served.archive.add_deb("app")
    served.archive.publish("trixie")
    digest = hashlib.sha256(served_index(served)).hexdigest()
    by_hash = f"/dists/trixie/main/binary-amd64/by-hash/SHA256/{digest}"
    served.server.faults.gone.add(by_hash)
    served.fetch_indexes()
    assert served.server.requests[1:] == [by_hash, f"/dists/trixie/{INDEX}.xz"]


def test_index_is_fetched_once(served: ServedArchive) -> None:
    served.archive.publish("trixie")
    served.fetch_indexes()
    served.fetch_indexes()
    assert served.server.requests.count("/dists/trixie/InRelease") == 2
    assert len(served.server.requests) == 3


def test_next_address_is_tried(served: ServedArchive, tmp_path: Path) -> None:
    served.archive.publish("trixie")
    empty = tmp_path / "empty"
    empty.mkdir()
    with serve(empty) as dead:
        project = make_project(
            tmp_path / "other", Pin("debian", served.archive, [dead.url, served.server.url])
        )
    other = ServedArchive(served.archive, served.server, project, served.said)
    assert other.fetch_indexes().records


def test_reachable(served: ServedArchive) -> None:
    served.archive.publish("trixie")
    archive = served.keys.archive("debian")
    assert release.reachable(archive, "trixie")
    assert not release.reachable(archive, "nonesuch")


@pytest.fixture
def silent() -> Iterator[str]:
    """Take connections, and then say nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Know a name, but let the name service take its time: what a host whose network is down often sees."""
    known, over = socket.getaddrinfo, threading.Event()

    def look_up(host: Any, *words: Any, **options: Any) -> Any:
        if host == "slow.example":
            over.wait(20)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return known(host, *words, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    yield "http://slow.example"
    over.set()


def at(served: ServedArchive, folder: Path, *uris: str) -> Archive:
    """Return the archive of `served`, pinned to these addresses."""
    return keys.load(make_project(folder, Pin("debian", served.archive, list(uris))).keys).archive("debian")


@pytest.mark.parametrize("kind", ["silent", "forgetful"])
def test_unreachable_is_soon_said(
    served: ServedArchive, tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    archive = at(served, tmp_path / "other", request.getfixturevalue(kind))
    start = time.monotonic()
    assert not release.reachable(archive, "trixie", seconds=0.3)
    assert time.monotonic() - start < 3


def test_one_address_that_answers_is_enough(
    served: ServedArchive, tmp_path: Path, silent: str, forgetful: str
) -> None:
    served.archive.publish("trixie")
    archive = at(served, tmp_path / "other", silent, forgetful, "http://127.0.0.1:1", served.server.url)
    start = time.monotonic()
    assert release.reachable(archive, "trixie", seconds=10)
    assert time.monotonic() - start < 3


def test_unreachable_archive_is_a_sentence(served: ServedArchive) -> None:
    with pytest.raises(UnavailableError, match=r"InRelease of debian trixie cannot be had: .* answers 404"):
        served.fetch_indexes()


#: Reads the indexes of the project given as argument, in a process of its own.
CHILD = """
import signal, sys
from dindkit.command_line.failures import terminated
from dindkit.packages import keys, make_lock
from dindkit.packages.download_cache import DownloadCache
from dindkit.progress import Progress
from dindkit.project import Project
from pathlib import Path

signal.signal(signal.SIGTERM, terminated)
project = Project(Path(sys.argv[1]), Path(sys.argv[1], "state"), Path(sys.argv[1], "cache"))
make_lock.fetch_indexes(keys.load(project.keys), DownloadCache(project.cache), "trixie", "amd64", Progress())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_leaves_nothing(served: ServedArchive, tmp_path: Path, number: signal.Signals) -> None:
    """While an index that was begun does not arrive."""
    served.archive.add_deb("app")
    served.archive.publish("trixie", by_hash=False)
    served.server.faults.stall.add(f"/dists/trixie/{INDEX}.xz")
    homes = tmp_path / "homes"
    homes.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(served.project.root)],
        env={**os.environ, "TMPDIR": str(homes)},
        stderr=subprocess.PIPE,
    )
    while len(served.server.requests) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    process.communicate(timeout=10)
    assert process.returncode != 0
    assert not list(homes.iterdir())
    assert not list((served.project.cache / "partial").iterdir())
    whole = [path for path in (served.project.cache / "sha256").rglob("*") if path.is_file()]
    assert hashlib.sha256(served_index(served)).hexdigest() not in {path.name for path in whole}
