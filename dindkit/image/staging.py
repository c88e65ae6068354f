"""Check packages between download cache and sandbox: each is read, hashed, checked and decompressed once.

The checks run on all cores, while other packages are downloaded and the parent image is assembled. The
checked bytes are written as a package without compression, and that is what dpkg unpacks. Once it has, the
files are held to what was written.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import replace
from multiprocessing.pool import ThreadPool
from pathlib import Path
from queue import PriorityQueue
from types import TracebackType
from typing import IO

from dindkit.errors import DindkitError, TrustError
from dindkit.files import open_regular
from dindkit.formats import deb
from dindkit.formats.contents import read_chunks
from dindkit.formats.deb import Deb, DebError
from dindkit.packages.lock import Row
from dindkit.progress import Step


class _StoppedError(Exception):
    """The build has ended: this check is no longer needed."""


class Staging:
    """A folder of checked packages; leaving `with` stops the checks, which run in threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._all = folder / ".all"
        self._all.mkdir(parents=True)
        self._pool = ThreadPool(os.cpu_count())
        self._stop = threading.Event()
        self._begun: dict[Row, Future[Deb]] = {}
        self._written: dict[Row, _Written] = {}
        self._places: dict[Row, int] = {}
        self._waiting = PriorityQueue[tuple[int, Row, Path]]()

    def __enter__(self) -> Staging:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._pool.terminate()
        self._pool.join()

    def arrange(self, rows: Iterable[Row]) -> None:
        """Let packages that wait for a core be checked in this order: they may arrive in another."""
        self._places = {row: place for place, row in enumerate(rows)}

    def begin(self, row: Row, path: Path) -> None:
        """Begin to check the package `row`, downloaded to `path`; a row is checked only once."""
        if row not in self._begun:
            self._begun[row] = Future()
            self._waiting.put((self._places.get(row, 0), row, path))
            self._pool.apply_async(self._check_next)

    def checked(self, rows: Iterable[Row], step: Step) -> list[Deb]:
        """Return the packages `rows`, by name, as soon as all of them are checked.

        Raises TrustError where the file of one is not what its row says, DebError where it is not what a
        package should be, DindkitError where it is no file.
        """
        found = []
        for row in sorted(rows):
            found.append(self._begun[row].result())
            step.advance()
        return found

    def folder_of(self, name: str, debs: Iterable[Deb]) -> Path:
        """Return a folder with the files of `debs` and no others."""
        folder = self._folder / name
        folder.mkdir()
        for one in debs:
            os.link(one.file, folder / one.file.name)
        return folder

    def hold(self, rows: Iterable[Row]) -> Callable[[], None]:
        """Begin to compare the files of checked packages with what was written when they were checked.

        The function that is returned waits for that. It raises TrustError where a file has changed since, so
        that dpkg may have unpacked what nobody has checked.
        """
        pending = [
            (row, self._pool.apply_async(self._is_whole, (row,))) for row in rows if row in self._written
        ]

        def wait() -> None:
            for row, whole in pending:
                if not whole.get():
                    raise TrustError(
                        f"The checked package {row.name} was changed while the image was assembled.",
                        f"See who may write in {self._folder.parent}, and build again.",
                    )

        return wait

    def _is_whole(self, row: Row) -> bool:
        try:
            return self._written[row].is_in(self._begun[row].result().file)
        except (OSError, DindkitError):
            return False

    def drop(self, rows: Iterable[Row]) -> None:
        """Delete the files of checked packages."""
        for row in rows:
            for path in self._folder.glob(f"*/{self._begun[row].result().file.name}"):
                path.unlink()

    def _check_next(self) -> None:
        _, row, path = self._waiting.get()
        try:
            self._begun[row].set_result(self._stage(row, path))
        except BaseException as error:  # it is raised where the result is asked for
            self._begun[row].set_exception(error)

    def _stage(self, row: Row, path: Path) -> Deb:
        target = self._all / f"{row.name}_{row.sha256[:16]}.deb"
        with _opened(row, path) as source, target.open("xb") as out:
            hashed, written = deb.Hashed(source, row.size), _Written(out, self._stop)
            try:
                found = deb.read(hashed, row, out=written)
            except DebError:
                _hold(hashed, row, path)
                raise
            _hold(hashed, row, path)
        self._written[row] = written
        return replace(found, file=target)


class _Written:
    """Writes to a file, and can tell later whether a file holds what was written.

    What is appended goes into a digest. A few bytes may be written again in their place, as the header of an
    ar member is when its size is known: these are compared. Writing raises _StoppedError once `stop` is set.
    """

    def __init__(self, file: IO[bytes], stop: threading.Event) -> None:
        self._file, self._stop = file, stop
        self._digest, self._end = hashlib.sha256(), 0
        #: What was appended in few bytes, and what was written in the place of such, by offset.
        self._short: dict[int, bytes] = {}
        self._again: dict[int, bytes] = {}

    def write(self, data: bytes | memoryview) -> int:
        if self._stop.is_set():
            raise _StoppedError
        at = self._file.tell()
        if at != self._end:
            self._again[at] = bytes(data)
        else:
            self._digest.update(data)
            self._end += len(data)
            if len(data) <= deb.HEAD:
                self._short[at] = bytes(data)
        return self._file.write(data)

    def seek(self, offset: int) -> int:
        return self._file.seek(offset)

    def tell(self) -> int:
        return self._file.tell()

    def is_in(self, path: Path) -> bool:
        """Tell whether the file at `path` holds what was written, and nothing else. Raises OSError."""
        found = hashlib.sha256()
        with open_regular(path) as file:
            for at, data in sorted(self._again.items()):
                for chunk in read_chunks(file, at - file.tell()):
                    found.update(chunk)
                if file.read(len(data)) != data:
                    return False
                found.update(self._short[at])
            for chunk in read_chunks(file):
                found.update(chunk)
        return found.digest() == self._digest.digest()


def _opened(row: Row, path: Path) -> IO[bytes]:
    try:
        return open_regular(path)
    except FileNotFoundError:
        raise TrustError(
            f"{row.name} was deleted after it was downloaded: {path} is gone.", "Build again."
        ) from None


def _hold(hashed: deb.Hashed, row: Row, path: Path) -> None:
    if hashed.finish() != (row.sha256, row.size):
        raise TrustError(
            f"{row.name} was changed after it was downloaded: {path} is not what the lock says.",
            "See who may write there, delete it, and build again.",
        )
