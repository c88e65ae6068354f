"""Make a lock: fetch the archives' indexes, and solve for a list of packages."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from multiprocessing.pool import ThreadPool

from dindkit.errors import RecipeError, TrustError
from dindkit.packages import lock, release, solver
from dindkit.packages.download_cache import DownloadCache
from dindkit.packages.index import Package, PackageIndex
from dindkit.packages.keys import Archive, Keys
from dindkit.packages.lock import Lock, ReleaseRecord, Row
from dindkit.packages.release import Release
from dindkit.packages.solver import Chosen, Request
from dindkit.progress import Progress


@dataclass(frozen=True)
class FetchedIndexes:
    """The verified package indexes of some archives, for one suite of ours and one architecture."""

    suite: str
    architecture: str
    archives: tuple[Archive, ...]
    records: tuple[ReleaseRecord, ...]
    package_index: PackageIndex


def fetch_indexes(
    keys: Keys,
    store: DownloadCache,
    suite: str,
    architecture: str,
    progress: Progress,
    *,
    archives: Iterable[str] = (),
    since: Iterable[ReleaseRecord] = (),
    allow_expired: bool = False,
) -> FetchedIndexes:
    """Fetch and verify the indexes of all archives that serve `suite`, and of those on request in `archives`.

    `since` are the release records of the committed locks: an InRelease older than one of them is refused.
    Several locks (an image and its parents) can be made from the same indexes. Raises RecipeError for a suite
    that no archive serves, TrustError and UnavailableError as `release` does.
    """
    wanted = [
        archive
        for archive in keys.archives.values()
        if (suite in archive.suites and not archive.on_request) or archive.name in set(archives)
    ]
    for archive in wanted:
        if suite not in archive.suites:
            raise RecipeError(f"keys/archives.toml knows no suite {suite} of the archive {archive.name}.")
    if not wanted:
        raise RecipeError(f"keys/archives.toml knows no archive that serves the suite {suite}.")
    # The latest date counts: a lock whose packages did not change keeps its earlier date.
    since_by_suite: dict[tuple[str, str], int] = {}
    for record in since:
        suite_of_archive = (record.archive, record.suite)
        since_by_suite[suite_of_archive] = max(record.date, since_by_suite.get(suite_of_archive, 0))
    wanted_suites = [(archive, theirs) for archive in wanted for theirs in archive.suites[suite]]

    def one(archive_and_suite: tuple[Archive, str]) -> tuple[Release, list[str]]:
        archive, theirs = archive_and_suite
        data = release.fetch(shared, archive, theirs)
        found = release.verify(
            data,
            keys,
            archive,
            theirs,
            progress,
            earliest=since_by_suite.get((archive.name, theirs), 0),
            allow_expired=allow_expired,
        )
        return found, [found.packages(shared, part, architecture) for part in archive.components]

    package_index = PackageIndex(architecture)
    records = []
    with (
        progress.step("read package indexes") as step,
        store.in_one_workspace() as shared,
        ThreadPool(len(wanted_suites)) as pool,
    ):
        for found, texts in pool.imap(one, wanted_suites):
            records.append(found.record)
            for text in texts:
                package_index.add(text, found.archive.name)
        step.detail = f"{len(package_index)} packages of {', '.join(archive.name for archive in wanted)}"
    return FetchedIndexes(suite, architecture, tuple(wanted), tuple(records), package_index)


def make(
    found: FetchedIndexes,
    requests: Iterable[Request],
    *,
    image: str,
    engine: str = "",
    parent_rows: Iterable[Row] = (),
    old: Lock | None = None,
    allow_downgrade: bool = False,
) -> Lock:
    """Solve `requests` with these indexes and return the lock of what they add to `parent_rows`.

    Without `parent_rows` all essential packages are part of it. The lock names no parent yet. Only archives
    that are not on request, or that a request names, are used. Raises RecipeError where the requests cannot
    be met, and TrustError where a package would become older than in `old` and `allow_downgrade` is not set,
    or where an index describes a package that cannot exist.
    """
    requests = list(requests)
    parent_rows = list(parent_rows)
    named = {request.archive for request in requests}
    used = {one.name: one.on_request for one in found.archives if not one.on_request or one.name in named}
    chosen = solver.solve(
        found.package_index,
        requests,
        used,
        installed=[_installed(found, row) for row in parent_rows],
        essential=not parent_rows,
    )
    return _lock(found, chosen, set(used), image, engine, old, allow_downgrade)


def make_of(
    found: FetchedIndexes,
    chosen: Iterable[Chosen],
    *,
    image: str,
    old: Lock | None = None,
    allow_downgrade: bool = False,
) -> Lock:
    """Return the lock of the packages `chosen` and no others, whatever they need.

    It is for packages that are read, and never installed. Raises TrustError as `make` does.
    """
    used = {one.name for one in found.archives if not one.on_request}
    return _lock(found, chosen, used, image, "", old, allow_downgrade)


def _lock(
    found: FetchedIndexes,
    chosen: Iterable[Chosen],
    archives: Collection[str],
    image: str,
    engine: str,
    old: Lock | None,
    allow_downgrade: bool,
) -> Lock:
    records = [record for record in found.records if record.archive in archives]
    new = Lock(
        image=image,
        suite=found.suite,
        architecture=found.architecture,
        engine=engine,
        parent="",
        epoch=max(record.date for record in records),
        archives=tuple(sorted(_timed(records, found.archives))),
        rows=tuple(sorted(map(_row, chosen))),
    )
    for complaint in lock.complaints(new):
        raise TrustError(f"The archive's index cannot be right: {complaint}.")
    if not allow_downgrade:
        _check_downgrade(old, new)
    return new


def _timed(records: list[ReleaseRecord], archives: Iterable[Archive]) -> list[ReleaseRecord]:
    """Give all records of archives with a snapshot service the one time that fits them all."""
    time = release.snapshot_time([record.date for record in records])
    kept = {archive.name for archive in archives if archive.snapshot}
    return [replace(record, snapshot=time if record.archive in kept else "") for record in records]


def _installed(found: FetchedIndexes, row: Row) -> Package:
    for package in found.package_index.offered(row.name, {row.archive}):
        if package.version == row.version and package.control.get("SHA256") == row.sha256:
            return package
    raise RecipeError(
        f"The parent's lock has {row.name} {row.version}, which {row.archive} no longer offers.",
        "Lock the parent first: invoke lock",
    )


def _row(chosen: Chosen) -> Row:
    control = chosen.package.control
    size = control.get("Size", "")
    if not (size.isascii() and size.isdigit() and len(size) < 20):
        raise TrustError(
            f"The index of {chosen.package.archive} has no usable 'Size' of {chosen.package.name}: "
            f"{size[:40]!r}.",
        )
    try:
        return Row(
            name=control["Package"],
            version=control["Version"],
            architecture=control["Architecture"],
            size=int(size),
            sha256=control["SHA256"],
            path=control["Filename"],
            archive=chosen.package.archive,
            why=chosen.why,
        )
    except KeyError as error:
        raise TrustError(
            f"The index of {chosen.package.archive} has no usable {error} of {chosen.package.name}.",
            "A package without a SHA-256 is not trusted.",
        ) from None


def _check_downgrade(old: Lock | None, new: Lock) -> None:
    older = [change for change in lock.difference(old, new) if old and change.kind == "downgraded"]
    if older:
        raise TrustError(
            f"The archive now offers older versions than the lock has: {'; '.join(map(str, older))}.",
            "Find out why, and if it is meant to be so: invoke lock --allow-downgrade",
        )
