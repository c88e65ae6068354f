"""The download cache: a file is named by its SHA-256, once that has been checked.

The folder is `Project.cache`: dindkit/project.py.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from urllib.parse import quote

from dindkit import owner
from dindkit.errors import DindkitError, TrustError, UnavailableError
from dindkit.files import on_a_full_disk, open_regular
from dindkit.packages import transfer
from dindkit.packages.keys import Archive, Keys
from dindkit.packages.lock import Row
from dindkit.packages.transfer import RetryPolicy, TransferError
from dindkit.progress import Progress
from dindkit.progress import size as human
from dindkit.web.session import Session

CONNECTIONS = 6

#: Seconds after which the remains of a killed download are swept away.
STALE = 24 * 3600


class GoneError(UnavailableError):
    """Files that some address no longer has, and that no other gave.

    `rows` names them. `doubt` says why another address, which may still have one, failed; it is empty where
    all have answered.
    """

    def __init__(self, rows: Iterable[Row], doubt: str = "") -> None:
        self.rows = tuple(sorted(rows))
        names = ", ".join(f"{row.name} {row.version}" for row in self.rows)
        if doubt:
            super().__init__(
                f"Gone from one address, while another fails: {names} ({doubt}).",
                "Try again later, or run: invoke lock, or build without --frozen.",
            )
        else:
            super().__init__(
                f"Gone from every address that keys/archives.toml has for them: {names}.",
                "Run: invoke lock, or build without --frozen.",
            )


class _NowhereError(TransferError):
    """One file that at least one address no longer has; `doubt` as in GoneError."""

    def __init__(self, cause: str, doubt: str) -> None:
        super().__init__(cause, gone=True)
        self.doubt = doubt


class StoreError(DindkitError):
    """A file cannot be stored in the cache."""


@dataclass(frozen=True)
class Wanted:
    """A file to download: `size` in bytes, `urls` in the order in which they are tried."""

    what: str
    size: int
    sha256: str
    urls: tuple[str, ...]


class DownloadCache:
    """A folder of files named by their SHA-256. Any number of processes may share it."""

    def __init__(
        self, folder: Path, retries: RetryPolicy | None = None, workspace: Path | StoreError | None = None
    ) -> None:
        self.folder = folder
        self.retries = retries or RetryPolicy()
        self._partial = folder / "partial"
        self._shared = workspace

    def path(self, sha256: str) -> Path:
        """Return where the file of this hash is, or would be."""
        return self.folder / "sha256" / sha256[:2] / sha256

    def holds(self, sha256: str, size: int | None = None) -> bool:
        """Say whether the file is here and its content still has this hash.

        Raises DindkitError where its path is not a file.
        """
        path = self.path(sha256)
        try:
            with open_regular(path) as file:
                right_size = size is None or os.fstat(file.fileno()).st_size == size
                return right_size and hashlib.file_digest(file, "sha256").hexdigest() == sha256
        except FileNotFoundError:
            return False

    def fetch(
        self,
        rows: Iterable[Row],
        keys: Keys,
        progress: Progress,
        snapshots: Mapping[str, str] | None = None,
        arrived: Callable[[Row, Path], None] = lambda _row, _path: None,
    ) -> dict[Row, Path]:
        """Return the file of every row; missing ones are downloaded in parallel.

        `arrived` is called in this thread with each file as soon as it is here.

        A file that has left the archive is looked for at the archive's snapshot service, at the time that
        `snapshots` gives for the archive. Raises GoneError naming all rows that are gone, TrustError where
        what is served is not what the row says, UnavailableError where no server answers, StoreError where
        the disk is full.
        """
        wanted = {row: _wanted(row, keys.archive(row.archive), snapshots or {}) for row in rows}
        total = sum(row.size for row in wanted)
        gone: dict[Row, str] = {}
        with progress.step("download packages", total) as step, self._workspace() as space:
            with transfer.session(CONNECTIONS) as client, ThreadPool(CONNECTIONS) as pool:
                stop = threading.Event()

                def one(item: tuple[Row, Wanted]) -> tuple[Row, _NowhereError | None]:
                    row, file = item
                    try:
                        self._ensure(file, client, space, step.advance, stop)
                    except _NowhereError as error:
                        return row, error
                    return row, None

                try:
                    for row, error in pool.imap_unordered(one, wanted.items()):
                        if error:
                            gone[row] = error.doubt
                        else:
                            arrived(row, self.path(row.sha256))
                finally:
                    stop.set()
            step.detail = f"{len(wanted)} packages, {human(total)}"
        if gone:
            raise GoneError(gone, next(filter(None, gone.values()), ""))
        return {row: self.path(row.sha256) for row in wanted}

    def obtain(self, file: Wanted) -> Path:
        """Return the path of one file, fetching it where it is not here yet; raises as `fetch` does."""
        with self._workspace() as space, transfer.session(1) as client:
            self._ensure(file, client, space, lambda _: None, threading.Event())
        return self.path(file.sha256)

    def content(self, file: Wanted) -> bytes:
        """Return the content of one file, fetching it where it is not here yet; raises as `fetch` does.

        It is hashed again as it is read, because others may be able to write to the cache.
        """
        path = self.obtain(file)
        with open_regular(path) as opened:
            content = opened.read(file.size + 1)
        if len(content) != file.size or hashlib.sha256(content).hexdigest() != file.sha256:
            raise TrustError(
                f"{file.what} was changed after it was downloaded: {path} is not what its name says.",
                "See who may write there, delete it, and try again.",
            )
        return content

    def read(self, url: str, limit: int) -> bytes:
        """Download a file whose hash is not known, at most `limit` bytes; the cache does not keep it.

        Raises TransferError.
        """
        with transfer.session(1) as client:
            return transfer.retry(
                self.retries, lambda: b"".join(transfer.stream(client, url, limit, self.retries))
            )

    def _ensure(
        self,
        file: Wanted,
        client: Session,
        space: Path | StoreError,
        advance: Callable[[float], None],
        stop: threading.Event,
    ) -> None:
        """Make sure that `file` is here. Raises as `fetch` does, but _NowhereError where the file is gone."""
        if self.holds(file.sha256, file.size):
            advance(file.size)
            return
        failures: list[TransferError | TrustError] = []
        for url in file.urls:
            download = partial(self._download, file, url, client, space, advance, stop)
            try:
                transfer.retry(self.retries, download)
            except (TransferError, TrustError) as error:
                failures.append(error)
            else:
                return
        raise _worst(file, failures)

    def _download(
        self,
        file: Wanted,
        url: str,
        client: Session,
        space: Path | StoreError,
        advance: Callable[[float], None],
        stop: threading.Event,
    ) -> None:
        if isinstance(space, StoreError):
            raise space
        digest = hashlib.sha256()
        count = 0
        handle, name = tempfile.mkstemp(dir=space)
        temporary = Path(name)
        try:
            with _naming_a_full_disk(self.folder, file.what), os.fdopen(handle, "wb") as sink:
                for chunk in transfer.stream(client, url, file.size, self.retries, exact=True):
                    if stop.is_set():
                        raise TransferError("the download was given up")
                    digest.update(chunk)
                    sink.write(chunk)
                    count += len(chunk)
                    advance(len(chunk))
            if digest.hexdigest() != file.sha256:
                raise TrustError(
                    f"{url} holds {file.what} with SHA-256 {digest.hexdigest()} instead of {file.sha256}.",
                    "Do not use that server's files: try again later, or from another network.",
                )
            self._name(temporary, file.sha256)
        except BaseException:
            advance(-count)
            temporary.unlink(missing_ok=True)
            raise

    def _name(self, temporary: Path, digest: str) -> None:
        path = self.path(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.replace(path)

    @contextmanager
    def in_one_workspace(self) -> Iterator[DownloadCache]:
        """Yield this cache with one workspace for all that is obtained from it, which ends with the block.

        For threads: one that is left behind when the program is interrupted would not delete its own. What it
        asks for afterwards has no place to go.
        """
        with self._workspace() as space:
            yield DownloadCache(self.folder, self.retries, space)

    @contextmanager
    def _workspace(self) -> Iterator[Path | StoreError]:
        """Yield a folder for unfinished downloads, on the file system of the cache.

        Where nothing may be written there, yield the error for whoever has to: what is there can be read.
        """
        if self._shared:
            yield self._shared
            return
        with ExitStack() as ending:
            space: Path | StoreError
            try:
                self._partial.mkdir(parents=True, exist_ok=True)
                self._sweep()
                space = ending.enter_context(owner.workspace(self._partial, "download", 0o700))
            except OSError as error:
                if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
                    raise
                space = StoreError(
                    f"Nothing can be written in {self.folder}: {error.strerror}.",
                    "Let DINDKIT_CACHE name another folder.",
                )
            yield space

    def _sweep(self) -> None:
        for left in self._partial.iterdir():
            with suppress(FileNotFoundError):
                if time.time() - left.stat().st_mtime > STALE:
                    shutil.rmtree(left, ignore_errors=True)


def _wanted(row: Row, archive: Archive, snapshots: Mapping[str, str]) -> Wanted:
    addresses = list(archive.uris)
    if archive.snapshot and snapshots.get(archive.name):
        addresses.append(archive.snapshot.replace("{time}", snapshots[archive.name]))
    urls = tuple(f"{address}/{quote(row.path, safe='/+~:')}" for address in addresses)
    return Wanted(f"{row.name} {row.version}", row.size, row.sha256, urls)


def _worst(file: Wanted, failures: Iterable[TransferError | TrustError]) -> DindkitError:
    """Return the failure to report when no address gave `file`: wrong bytes, then gone, then the last one."""
    absent, other = "", ""
    for failure in failures:
        if isinstance(failure, TrustError):
            return failure
        if failure.gone:
            absent = failure.reason
        else:
            other = failure.reason
    if absent:
        return _NowhereError(f"{file.what} cannot be had: {absent}", other)
    return TransferError(f"{file.what} cannot be had: {other}")


def _naming_a_full_disk(folder: Path, what: str) -> AbstractContextManager[None]:
    """Raise a StoreError that names the folder where the disk is full."""
    cause = f"No space is left in {folder} for {what}."
    return on_a_full_disk(StoreError(cause, "Free some, or let DINDKIT_CACHE name a folder on another disk."))
