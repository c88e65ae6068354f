"""Which locked packages have a newer version in the signed archives now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dindkit.image.inputs import Ingredients
from dindkit.packages import locking, version
from dindkit.packages.keys import Archive, Keys
from dindkit.packages.lock import Row
from dindkit.packages.locking import Survey
from dindkit.packages.store import Store
from dindkit.progress import Progress
from dindkit.project import Project
from dindkit.review.report import Update


def find(project: Project, chain: Sequence[Ingredients], progress: Progress) -> tuple[Update, ...]:
    """Fetch and verify the indexes of the archives that the locks name, and compare: security first, by name.

    An InRelease older than the one a lock was made from is refused: with it, updates could be hidden. Raises
    TrustError and UnavailableError.
    """
    own = chain[-1]
    origins = [origin for made in chain for origin in made.lock.archives]
    found = locking.survey(
        own.keys,
        Store(project.cache),
        own.lock.suite,
        own.lock.architecture,
        progress,
        archives={origin.archive for origin in origins},
        since=origins,
    )
    waiting = [update for row in own.rows for update in _newer(found, own.keys, row)]
    return tuple(sorted(waiting, key=lambda update: (not update.security, update.name)))


def _newer(found: Survey, keys: Keys, row: Row) -> Iterator[Update]:
    """Yield at most one update: the latest version, and whether a security archive has any newer one."""
    allowed = _allowed(keys, row)
    newer = [
        package
        for package in found.universe.offered(row.name, allowed)
        if version.compare(package.version, row.version) > 0
    ]
    if newer:
        security = any(is_security(allowed[package.archive], found.suite) for package in newer)
        yield Update(row.name, row.version, newer[0].version, newer[0].archive, security)


def _allowed(keys: Keys, row: Row) -> dict[str, Archive]:
    """Return the archives that may replace the row: an archive on request stays with its own packages."""
    own = keys.archive(row.archive)
    if own.on_request:
        return {own.name: own}
    return {name: archive for name, archive in keys.archives.items() if not archive.on_request}


def is_security(archive: Archive, suite: str) -> bool:
    """Say whether the archive is one for security updates, by Debian's way of naming such suites."""
    return any(theirs.endswith("-security") for theirs in archive.suites.get(suite, ()))
