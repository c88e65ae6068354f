"""`invoke audit --updates`: newer versions, and whether archives still list the locked ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dindkit.errors import TrustError
from dindkit.image.build_inputs import BuildInputs
from dindkit.packages import make_lock, version
from dindkit.packages.download_cache import DownloadCache
from dindkit.packages.keys import Archive, Keys
from dindkit.packages.lock import Row
from dindkit.packages.make_lock import FetchedIndexes
from dindkit.progress import Progress
from dindkit.project import Project
from dindkit.review.report import Update, UpdateCheck


def find(project: Project, chain: Sequence[BuildInputs], progress: Progress) -> UpdateCheck:
    """Fetch and verify the indexes of the archives that the locks name, and compare the locks with them.

    An InRelease older than that of a lock is refused: an attacker could hide updates with it. Raises
    TrustError, also where a signed index has a locked version with another hash, and UnavailableError.
    """
    own = chain[-1]
    records = [record for made in chain for record in made.lock.archives]
    found = make_lock.fetch_indexes(
        own.keys,
        DownloadCache(project.cache),
        own.lock.suite,
        own.lock.architecture,
        progress,
        archives={record.archive for record in records},
        since=records,
    )
    waiting = [update for row in own.rows for update in _newer(found, own.keys, row)]
    superseded = tuple(sorted(row.name for row in own.rows if not _confirmed(found, row)))
    return UpdateCheck(
        tuple(sorted(waiting, key=lambda update: (not update.security, update.name))),
        len(own.rows) - len(superseded),
        superseded,
    )


def _confirmed(found: FetchedIndexes, row: Row) -> bool:
    """Say whether a signed index lists the row with this hash; raises TrustError for another hash."""
    said = {
        package.control.get("SHA256", "")
        for package in found.package_index.offered(row.name, {row.archive})
        if package.version == row.version
    }
    if said and row.sha256 not in said:
        raise TrustError(
            f"The lock has {row.name} {row.version} with SHA-256 {row.sha256}, but {row.archive} signs "
            f"{', '.join(sorted(said))} under that version.",
            "Somebody has changed the lock or the archive: find out who.",
        )
    return bool(said)


def _newer(found: FetchedIndexes, keys: Keys, row: Row) -> Iterator[Update]:
    """Yield at most one update: the latest version, and whether a security archive has any newer one."""
    allowed = _allowed(keys, row)
    newer = [
        package
        for package in found.package_index.offered(row.name, allowed)
        if version.compare(package.version, row.version) > 0
    ]
    if newer:
        security = any(is_security(allowed[package.archive], found.suite) for package in newer)
        yield Update(row.name, row.version, newer[0].version, newer[0].archive, security)


def _allowed(keys: Keys, row: Row) -> dict[str, Archive]:
    """Return the archives that may have updates of the row; for one on request only that archive itself."""
    own = keys.archive(row.archive)
    if own.on_request:
        return {own.name: own}
    return {name: archive for name, archive in keys.archives.items() if not archive.on_request}


def is_security(archive: Archive, suite: str) -> bool:
    """Say whether the archive is one for security updates, by Debian's way of naming such suites."""
    return any(theirs.endswith("-security") for theirs in archive.suites.get(suite, ()))
