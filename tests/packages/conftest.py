"""Keys that all tests of dindkit.packages share, and an archive with a project that trusts it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest

from dindkit.packages import keys, make_lock, release
from dindkit.packages.download_cache import DownloadCache
from dindkit.packages.keys import Keys
from dindkit.packages.lock import Lock
from dindkit.packages.make_lock import FetchedIndexes
from dindkit.packages.solver import Request
from dindkit.packages.transfer import RetryPolicy
from dindkit.progress import Progress
from dindkit.project import Project
from tests.support.archive import ArchiveBuilder, KeyRing, Pin, Server, make_project, serve

#: Short enough that a test of a stalling server takes a second.
HURRY = RetryPolicy(tries=3, pause=0.01, connect=2.0, silence=0.5, head=1.0, grace=0.7)


@pytest.fixture(scope="session")
def signer(key_ring: KeyRing) -> str:
    return key_ring.make()


@dataclass
class ServedArchive:
    """An archive, the server it is on, and a project that pins its key under the name `debian`."""

    archive: ArchiveBuilder
    server: Server
    project: Project
    said: StringIO

    @property
    def keys(self) -> Keys:
        return keys.load(self.project.keys)

    @property
    def store(self) -> DownloadCache:
        return DownloadCache(self.project.cache, HURRY)

    @property
    def progress(self) -> Progress:
        return Progress(self.said)

    def fetch_indexes(self, old: Lock | None = None, allow_expired: bool = False) -> FetchedIndexes:
        since = old.archives if old else ()
        return make_lock.fetch_indexes(
            self.keys, self.store, "trixie", "amd64", self.progress, since=since, allow_expired=allow_expired
        )

    def lock(self, *names: str, old: Lock | None = None, allow_downgrade: bool = False) -> Lock:
        requests = [Request(name) for name in names]
        return make_lock.make(
            self.fetch_indexes(old), requests, image="test", old=old, allow_downgrade=allow_downgrade
        )

    def verify(self, data: bytes) -> release.Release:
        pinned = self.keys
        return release.verify(data, pinned, pinned.archive("debian"), "trixie", self.progress)


@pytest.fixture
def served(tmp_path: Path, key_ring: KeyRing, signer: str) -> Iterator[ServedArchive]:
    archive = ArchiveBuilder(tmp_path / "archive", key_ring, signer)
    with serve(archive.folder) as server:
        project = make_project(tmp_path / "project", Pin("debian", archive, server.url))
        yield ServedArchive(archive, server, project, StringIO())
