"""Check packages between download cache and sandbox: each is read, hashed, checked and decompressed once.

The checks run on all cores, while other packages are downloaded and the parent image is assembled. The
checked bytes are written as a package without compression, and that is what dpkg unpacks.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import replace
from multiprocessing.pool import ThreadPool
from pathlib import Path
from queue import PriorityQueue
from types import TracebackType
from typing import IO

from dindkit.errors import TrustError
from dindkit.files import open_regular
from dindkit.formats import deb
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
        with open_regular(path) as source, target.open("xb") as out:
            hashed = deb.Hashed(source, row.size)
            try:
                found = deb.read(hashed, row, out=_Stoppable(out, self._stop))
            except DebError:
                _hold(hashed, row, path)
                raise
            _hold(hashed, row, path)
        return replace(found, file=target)


class _Stoppable:
    """Writes to a file; raises _StoppedError once the build has ended."""

    def __init__(self, file: IO[bytes], stop: threading.Event) -> None:
        self._file, self._stop = file, stop

    def write(self, data: bytes | memoryview) -> int:
        if self._stop.is_set():
            raise _StoppedError
        return self._file.write(data)

    def seek(self, offset: int) -> int:
        return self._file.seek(offset)

    def tell(self) -> int:
        return self._file.tell()


def _hold(hashed: deb.Hashed, row: Row, path: Path) -> None:
    if hashed.finish() != (row.sha256, row.size):
        raise TrustError(
            f"{row.name} was changed after it was downloaded: {path} is not what the lock says.",
            "See who may write there, delete it, and build again.",
        )
