"""InRelease and Packages of one suite of an archive, as the Debian repository format describes them.

https://wiki.debian.org/DebianRepository/Format
"""

from __future__ import annotations

import hashlib
import lzma
import re
import time
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from multiprocessing import TimeoutError as NoAnswer
from multiprocessing.pool import ThreadPool

from dindkit.errors import TrustError, UnavailableError
from dindkit.packages import stanza, transfer
from dindkit.packages.download_cache import DownloadCache, Wanted
from dindkit.packages.keys import Archive, Keys
from dindkit.packages.lock import ReleaseRecord
from dindkit.packages.stanza import StanzaError
from dindkit.packages.transfer import TransferError
from dindkit.progress import Progress
from dindkit.web.deadline import Timeouts

#: Bytes; Debian's largest InRelease has a few hundred thousand.
LARGEST_INRELEASE = 8_000_000

#: Bytes unpacked; Debian's largest index has 60 million.
LARGEST_INDEX = 512_000_000

#: Seconds by which this machine's clock may be behind the archive's.
CLOCK_TOLERANCE = 3600

#: How long after an InRelease's date the snapshot service is asked for. It keeps a few states a day and
#: answers with the last one before the time that it is asked for, so the date itself may be too early; and
#: a file that leaves the indexes stays in Debian's archive for longer than this.
SNAPSHOT_DELAY = timedelta(hours=12)

#: The compressions that we read, in order of preference.
SUFFIXES = (".xz", ".gz", "")

AGAIN = "Someone on the way may have changed it: try again later, or from another network."

_ENTRY = re.compile(r"([0-9a-f]{64})[ \t]+([0-9]{1,18})[ \t]+([!-~]+)", re.ASCII)


@dataclass(frozen=True)
class File:
    """A file that InRelease lists; `path` is relative to the suite's folder, `size` in bytes."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Release:
    """A verified InRelease: its record for the lock, and the files that it lists."""

    archive: Archive
    record: ReleaseRecord
    files: Mapping[str, File]
    by_hash: bool

    def packages(self, store: DownloadCache, component: str, architecture: str) -> str:
        """Fetch a Packages index and return its text.

        The file as it is served and its uncompressed content must both have the size and hash in InRelease.
        Raises TrustError and UnavailableError.
        """
        plain = f"{component}/binary-{architecture}/Packages"
        what = f"{plain} of {self.record.archive} {self.record.suite}"
        listed = [suffix for suffix in SUFFIXES if plain + suffix in self.files]
        if plain not in self.files or not listed:
            raise TrustError(f"InRelease lists no SHA-256 for {what}.", "Is there such a component there?")
        size = self.files[plain].size
        if max(size, self.files[plain + listed[0]].size) > LARGEST_INDEX:
            raise TrustError(f"{what} would unpack to {size} bytes.", AGAIN)
        compressed = store.content(self._wanted(self.files[plain + listed[0]], what))
        return self.content(component, architecture, _UNPACK[listed[0]](compressed, size, what))

    def content(self, component: str, architecture: str, data: bytes) -> str:
        """Return the text of a Packages index once its size and hash are checked; raises TrustError."""
        file = self.files[f"{component}/binary-{architecture}/Packages"]
        if len(data) != file.size or hashlib.sha256(data).hexdigest() != file.sha256:
            raise TrustError(
                f"{file.path} of {self.record.archive} {self.record.suite} is not what InRelease lists.",
                AGAIN,
            )
        return data.decode("utf-8", errors="replace")

    def _wanted(self, file: File, what: str) -> Wanted:
        folder, _, _ = file.path.rpartition("/")
        bases = [f"{uri}/dists/{self.record.suite}" for uri in self.archive.uris]
        urls = [f"{base}/{file.path}" for base in bases]
        if self.by_hash:
            # While a mirror is being updated, only the by-hash name is sure to belong to this InRelease.
            urls = [f"{base}/{folder}/by-hash/SHA256/{file.sha256}" for base in bases] + urls
        return Wanted(what, file.size, file.sha256, tuple(urls))


def fetch(store: DownloadCache, archive: Archive, suite: str) -> bytes:
    """Return InRelease of the archive's own `suite`, unverified; raises UnavailableError."""
    failure: TransferError | None = None
    for uri in archive.uris:
        try:
            return store.read(f"{uri}/dists/{suite}/InRelease", LARGEST_INRELEASE)
        except TransferError as error:
            failure = error
    raise UnavailableError(
        f"InRelease of {archive.name} {suite} cannot be had: {failure and failure.reason}.",
        "Check the network and try again.",
    )


def verify(
    data: bytes,
    keys: Keys,
    archive: Archive,
    suite: str,
    progress: Progress,
    *,
    earliest: int = 0,
    allow_expired: bool = False,
) -> Release:
    """Check an InRelease file and return what it says.

    `earliest` is the date of the one that the committed lock was made from, in seconds since 1970: an older
    one is a replay. Raises TrustError for a bad signature, another suite, a date in the future, an expired
    `Valid-Until` (with `allow_expired` that is a warning) and hashes weaker than SHA-256.
    """
    where = f"InRelease of {archive.name} {suite}"
    signed = keys.verify(data, archive, where)
    try:
        said = stanza.fields(signed.text.decode("utf-8", errors="replace"))
    except StanzaError as error:
        raise TrustError(f"{where} is refused: {error.problem}.", AGAIN) from None
    if suite not in (said.get("Suite"), said.get("Codename")):
        names = "/".join(said[name] for name in ("Suite", "Codename") if name in said)
        raise TrustError(f"{where} is that of another suite ({names or 'it names none'}).", AGAIN)
    date = _date(said, "Date", where)
    if date > time.time() + CLOCK_TOLERANCE:
        raise TrustError(f"{where} is dated {said['Date']}, in the future.", "Is this machine's clock right?")
    if date < earliest:
        raise TrustError(
            f"{where} is dated {said['Date']}, older than the one that the lock was made from.",
            "A mirror may be stale or replaying old files: try again later, or from another network.",
        )
    _check_valid_until(said, where, progress, allow_expired)
    files = _files(said.get("SHA256", ""), where)
    if not files:
        raise TrustError(f"{where} lists no SHA-256 hashes; weaker ones are not trusted.")
    digest = hashlib.sha256(data).hexdigest()
    record = ReleaseRecord(archive.name, suite, date, digest, signed.fingerprint, snapshot_time([date]))
    return Release(archive, record, files, said.get("Acquire-By-Hash") == "yes")


def _files(listed: str, where: str) -> dict[str, File]:
    """Return the files in the field SHA256, one per line. Raises TrustError where one is listed twice."""
    found: dict[str, File] = {}
    for line in filter(None, (line.strip(" \t") for line in listed.split("\n"))):
        entry = _ENTRY.fullmatch(line)
        file = File(entry[3], int(entry[2]), entry[1]) if entry else None
        if file is None or found.setdefault(file.path, file) != file:
            raise TrustError(f"{where} lists a file in a way that is not understood: {line[:200]!r}.", AGAIN)
    return found


def snapshot_time(dates: list[int]) -> str:
    """Return the time to ask a snapshot service for, from the dates of InRelease files (seconds since 1970).

    One time serves all suites of a lock: at the latest date the earlier InRelease files were still current.
    """
    return (datetime.fromtimestamp(max(dates), UTC) + SNAPSHOT_DELAY).strftime("%Y%m%dT%H%M%SZ")


def _check_valid_until(said: Mapping[str, str], where: str, progress: Progress, allow_expired: bool) -> None:
    if "Valid-Until" not in said or _date(said, "Valid-Until", where) >= time.time():
        return
    complaint = f"{where} was valid until {said['Valid-Until']} and has expired"
    if not allow_expired:
        raise TrustError(
            f"{complaint}.",
            "The mirror may be stale: try again later, or use --allow-expired at your own risk.",
        )
    progress.warn(f"{complaint}; used because of --allow-expired, so security updates may be missing.")


def _date(said: Mapping[str, str], field: str, where: str) -> int:
    try:
        moment = parsedate_to_datetime(said[field])
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    except (KeyError, ValueError, OverflowError):  # a year may have more digits than a C int
        raise TrustError(f"{where} has no readable {field}.", AGAIN) from None


def _unpack_xz(data: bytes, size: int, what: str) -> bytes:
    try:
        decoder = lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=1 << 28)
        return decoder.decompress(data, size + 1)
    except lzma.LZMAError as error:
        raise TrustError(f"{what} cannot be unpacked ({error}).", AGAIN) from None


def _unpack_gz(data: bytes, size: int, what: str) -> bytes:
    try:
        return zlib.decompressobj(wbits=31).decompress(data, size + 1)
    except zlib.error as error:
        raise TrustError(f"{what} cannot be unpacked ({error}).", AGAIN) from None


def _unpack_plain(data: bytes, _size: int, _what: str) -> bytes:
    return data


#: Each returns at most one byte more than InRelease lists, as a guard against decompression bombs.
_UNPACK = {".xz": _unpack_xz, ".gz": _unpack_gz, "": _unpack_plain}


def reachable(archive: Archive, suite: str, seconds: float = 5.0) -> bool:
    """Say whether some address of `archive` begins within `seconds` to send the InRelease of `suite`."""
    timeouts = Timeouts(connect=seconds, silence=seconds, head=seconds, grace=seconds)

    def answers(uri: str) -> bool:
        with transfer.session(1) as client, suppress(TransferError):
            body = transfer.stream(client, f"{uri}/dists/{suite}/InRelease", LARGEST_INRELEASE, timeouts)
            return bool(next(body, b""))
        return False

    # The name service has its own, far longer timeouts. So this runs in threads that can be left behind.
    deadline = time.monotonic() + seconds
    with ThreadPool(len(archive.uris)) as pool, suppress(NoAnswer):
        answered = pool.imap_unordered(answers, archive.uris)
        return any(answered.next(timeout=deadline - time.monotonic()) for _ in archive.uris)
    return False
