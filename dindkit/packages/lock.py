"""The lock: every package by name, version and SHA-256, in TOML with one line per package."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from dindkit.errors import RecipeError
from dindkit.files import read_bounded, replacing
from dindkit.packages import version

#: `why` of a row that no other package brought in.
ESSENTIAL = "essential"
REQUESTED = "requested"

RESTORE = "Restore it with git, or run: invoke lock"

#: Bytes. A lock of some thousand packages has one million.
LARGEST_LOCK = 16_000_000

HEADER = "# Written by `invoke lock`. A build takes these packages and no others.\n"

#: What each field of a row may look like: deb-control(5), Debian Policy §5.6. Names become those of files.
ROW_FIELDS = {
    "name": re.compile(r"[a-z0-9][a-z0-9+.-]{1,127}"),
    "version": re.compile(r"[0-9][A-Za-z0-9.+:~-]{0,255}"),
    "architecture": re.compile(r"[a-z0-9-]{1,63}"),
    "sha256": re.compile(r"[0-9a-f]{64}"),
    "archive": re.compile(r"[a-z0-9-]{1,63}"),
    "path": re.compile(r"[A-Za-z0-9_.+~%:/-]{1,1023}"),
    "why": re.compile(r"[a-z0-9][a-z0-9+.-]{1,127}"),
}

#: Bytes of a package; Debian's largest has some 2 billion.
LARGEST_PACKAGE = 10_000_000_000


#: The first second of the year 10000, which TOML dates cannot express, in seconds since 1970.
END_OF_TIME = 253_402_300_800

#: An id of an image or of a layer: OCI image-spec, descriptor.md.
IDENTITY = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, order=True)
class Row:
    """One package. `size` is in bytes, `path` is relative to the archive's address."""

    name: str
    version: str
    architecture: str
    size: int
    sha256: str
    path: str
    archive: str
    #: `essential`, `requested`, or the name of the package that first needed this one.
    why: str


@dataclass(frozen=True, order=True)
class ReleaseRecord:
    """The signed InRelease that the rows of one suite of an archive were taken from."""

    archive: str
    suite: str
    #: Its `Date`, in seconds since 1970.
    date: int
    #: SHA-256 of the InRelease file as it was served.
    sha256: str
    #: Full fingerprint of the pinned primary key that signed it.
    signer: str
    #: The time to ask the archive's snapshot service for (`20260912T075541Z`).
    snapshot: str


@dataclass(frozen=True)
class Expected:
    """The identity that a build from this lock must arrive at."""

    image_id: str
    diff_ids: tuple[str, ...]


@dataclass(frozen=True)
class Lock:
    """The packages that an image adds to its parent's, and the signed indexes that list them."""

    image: str
    suite: str
    architecture: str
    #: `docker.io`, `docker-ce`, or empty where the image has no choice of engine.
    engine: str
    #: `identity` of the parent's lock, or empty.
    parent: str
    #: The latest `Date` of all InRelease files, in seconds since 1970: the time of everything in the image.
    epoch: int
    archives: tuple[ReleaseRecord, ...]
    rows: tuple[Row, ...]
    expected: Expected | None = None

    @property
    def snapshots(self) -> dict[str, str]:
        """Snapshot time of each archive, for `DownloadCache.fetch`."""
        return {record.archive: record.snapshot for record in self.archives}


def render(lock: Lock) -> str:
    """Return the text of `lock`: a header with its identity, then one line per package, sorted by name."""
    return content(lock, identity(lock))


def content(lock: Lock, named: str = "") -> str:
    """Return the text of `lock` with the identity `named`, or without one."""
    head = [
        HEADER,
        f"image = {_string(lock.image)}",
        f"suite = {_string(lock.suite)}",
        f"architecture = {_string(lock.architecture)}",
        f"engine = {_string(lock.engine)}",
        f"parent = {_string(lock.parent)}",
        *([f"identity = {_string(named)}"] if named else []),
        f"epoch = {lock.epoch}",
    ]
    if lock.expected:
        ids = ", ".join(map(_string, lock.expected.diff_ids))
        head.append(f"expected = {{ image_id = {_string(lock.expected.image_id)}, diff_ids = [{ids}] }}")
    lines = [*head, "", "archives = ["]
    lines += [_inline(_record_table(record)) for record in sorted(lock.archives)]
    lines += ["]", "", "packages = ["]
    lines += [_inline(_row_table(row)) for row in sorted(lock.rows)]
    return "\n".join([*lines, "]", ""])


def identity(lock: Lock) -> str:
    """Return the SHA-256 by which `lock` and the locks of its children name it.

    It covers everything but the ids in `expected`: `lock --seal` can write these without changing the locks
    of the children.
    """
    return hashlib.sha256(content(replace(lock, expected=None)).encode()).hexdigest()


def write(lock: Lock, path: Path) -> None:
    """Put the text of `lock` at `path` in one step: a reader sees the old file or the new one."""
    write_all({path: lock})


def write_all(new: Mapping[Path, Lock]) -> None:
    """Put each lock at its path: all of them or, where that fails, none. Raises OSError."""
    before = {path: path.read_bytes() if path.is_file() else None for path in new}
    try:
        with ExitStack() as stack:
            for path, lock in new.items():
                file = stack.enter_context(replacing(path))
                file.write(render(lock).encode())
                file.flush()  # a full disk is noticed before the first file is renamed
    except BaseException:
        for path, data in before.items():
            _restore(path, data)
        raise


def _restore(path: Path, data: bytes | None) -> None:
    if data is None:
        path.unlink(missing_ok=True)
    elif path.read_bytes() != data:
        with replacing(path) as file:
            file.write(data)


def read(path: Path) -> Lock:
    """Read the lock at `path`.

    Raises RecipeError where it is not a lock, where it was changed by hand, or where its rows cannot be true:
    two of one name, a malformed hash, a path with `..`, an archive that the lock does not list, a `why` that
    names no row.
    """
    try:
        table = tomllib.loads(read_bounded(path, LARGEST_LOCK).decode())
        named = table.pop("identity")
        lock = _from_table(table)
    except FileNotFoundError:
        raise RecipeError(f"There is no lock at {path}.", "Run: invoke lock") from None
    except (ArithmeticError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RecipeError(
            f"{path} is not a lock: {_reason(error)}.", "Restore it with git, or run: invoke lock"
        ) from None
    for complaint in complaints(lock):
        raise RecipeError(f"{path}: {complaint}.", RESTORE)
    if named != identity(lock):
        raise RecipeError(f"{path} was changed by hand: it does not add up to its identity.", RESTORE)
    return lock


def _reason(error: Exception) -> str:
    return f"it has no {error.args[0]}" if isinstance(error, KeyError) else str(error)


def complaints(lock: Lock) -> Iterable[str]:
    """Yield what cannot be true about the rows of `lock`; no other file is read."""
    known = {record.archive for record in lock.archives}
    by_name: dict[str, Row] = {}
    for row in lock.rows:
        for field, pattern in ROW_FIELDS.items():
            value = getattr(row, field)
            if not pattern.fullmatch(value):
                yield f"the {field} of {row.name[:80]} is malformed: {value[:80]!r}"
        if not 0 < row.size <= LARGEST_PACKAGE:
            yield f"the size of {row.name} is {row.size}"
        if row.path.startswith("/") or ".." in PurePosixPath(row.path).parts:
            yield f"the path of {row.name} leads out of the archive: {row.path}"
        if row.archive not in known:
            yield f"{row.name} is from the archive {row.archive}, which the lock does not list"
        if row.name in by_name:
            yield f"{row.name} has two rows"
        by_name[row.name] = row
    led: set[str] = set()
    for row in lock.rows:
        if not _leads_to_a_root(row, by_name, led):
            yield f"nothing asks for {row.name} (its why is {row.why})"


def _leads_to_a_root(row: Row, by_name: Mapping[str, Row], led: set[str]) -> bool:
    """Tell whether something asks for `row` in the end; `led` are the names of which that is known."""
    seen = set()
    while row.why not in (ESSENTIAL, REQUESTED) and row.name not in led:
        if row.name in seen or row.why not in by_name:
            return False
        seen.add(row.name)
        row = by_name[row.why]
    led |= seen
    return True


@dataclass(frozen=True)
class Change:
    """A package that two locks have differently: `old` is None where it is new, `new` where it is gone."""

    name: str
    old: Row | None
    new: Row | None

    @property
    def kind(self) -> str:
        """Return `added`, `removed`, `upgraded`, `downgraded`, or `rebuilt` (same version, other bytes)."""
        if self.old is None:
            return "added"
        if self.new is None:
            return "removed"
        order = version.compare(self.old.version, self.new.version)
        return ("rebuilt", "downgraded", "upgraded")[(order > 0) - (order < 0)]

    def __str__(self) -> str:
        versions = [row.version for row in (self.old, self.new) if row]
        return f"{self.kind:<10} {self.name} {' -> '.join(versions)}"


def difference(old: Lock | None, new: Lock) -> list[Change]:
    """Return the packages whose bytes differ between two locks, sorted by name."""
    before = {row.name: row for row in old.rows} if old else {}
    after = {row.name: row for row in new.rows}
    return [
        Change(name, before.get(name), after.get(name))
        for name in sorted(before.keys() | after.keys())
        if _bytes_of(before.get(name)) != _bytes_of(after.get(name))
    ]


def _bytes_of(row: Row | None) -> tuple[str, str] | None:
    return (row.version, row.sha256) if row else None


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # such a JSON string is a TOML string too


def _inline(table: dict[str, str]) -> str:
    return "  { " + ", ".join(f"{key} = {value}" for key, value in table.items()) + " },"


def _record_table(record: ReleaseRecord) -> dict[str, str]:
    return {
        "archive": _string(record.archive),
        "suite": _string(record.suite),
        "date": datetime.fromtimestamp(record.date, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "sha256": _string(record.sha256),
        "signer": _string(record.signer),
        "snapshot": _string(record.snapshot),
    }


def _row_table(row: Row) -> dict[str, str]:
    return {
        "name": _string(row.name),
        "version": _string(row.version),
        "architecture": _string(row.architecture),
        "archive": _string(row.archive),
        "why": _string(row.why),
        "size": str(row.size),
        "sha256": _string(row.sha256),
        "path": _string(row.path),
    }


def _from_table(table: dict[str, Any]) -> Lock:
    expected = table.pop("expected", None)
    archives = table.pop("archives")
    rows = table.pop("packages")
    lock: Lock = _typed(
        Lock(
            **table,
            archives=tuple(
                _typed(ReleaseRecord(**{**record, "date": _moment(record["date"])})) for record in archives
            ),
            rows=tuple(_typed(Row(**row)) for row in rows),
            expected=None if expected is None else _expected(expected),
        )
    )
    return lock


def _moment(date: datetime) -> int:
    """Return a date as seconds since 1970. Raises ValueError for one that `render` could not write."""
    seconds = int(date.timestamp())
    if not 0 <= seconds < END_OF_TIME:
        raise ValueError(f"the date {date} is before 1970 or after 9999")
    return seconds


def _expected(table: dict[str, Any]) -> Expected:
    """Return the ids in the lock. Raises TypeError and ValueError where they are malformed."""
    found = Expected(table.pop("image_id"), tuple(table.pop("diff_ids")))
    for name in (found.image_id, *found.diff_ids):
        if not IDENTITY.fullmatch(name):
            raise ValueError(f"{name!r} is no SHA-256")
    if table:
        raise ValueError(f"expected has {', '.join(table)}")
    return found


def _typed(record: Any) -> Any:
    """Return `record` when every plain field has the type that it is declared with."""
    for field in fields(record):
        found = type(getattr(record, field.name)).__name__
        if field.type in ("str", "int") and found != field.type:
            raise TypeError(f"{field.name} is a {found}")
    return record
