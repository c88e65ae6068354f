"""InRelease: its signatures and fields, the compressed indexes that it lists, and the keys that count."""

from __future__ import annotations

import atexit
import hashlib
import io
import shutil
import time
from dataclasses import dataclass
from email.utils import formatdate
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from hypothesis import strategies as st

from dindkit.packages import keys, release
from dindkit.packages.download_cache import DownloadCache
from dindkit.packages.keys import Archive, Key, Keys, Signed
from dindkit.packages.transfer import RetryPolicy
from dindkit.progress import Progress
from tests.fuzz import edits, texts
from tests.fuzz.target import Target
from tests.support.signing import KeyRing

ARCHIVE = Archive(
    name="debian",
    uris=("http://127.0.0.1:1",),
    snapshot="",
    suites={"trixie": ("trixie",)},
    components=("main",),
    keys=(),
)
QUIET = Progress(io.StringIO())
INDEX = "main/binary-amd64/Packages"


def fields(files: dict[str, bytes]) -> list[tuple[bytes, bytes]]:
    """Return the fields of an honest InRelease that lists `files`."""
    now = time.time()
    lines = "".join(
        f"\n {hashlib.sha256(data).hexdigest()} {len(data)} {path}" for path, data in files.items()
    )
    return [
        (b"Origin", b"Test"),
        (b"Suite", b"trixie"),
        (b"Codename", b"trixie"),
        (b"Date", formatdate(now - 60, usegmt=True).encode()),
        (b"Valid-Until", formatdate(now + 86400, usegmt=True).encode()),
        (b"Acquire-By-Hash", b"yes"),
        (b"SHA256", lines.encode()),
    ]


class Trusting(Keys):
    """Takes every text for signed: what is tried is what comes after the signature."""

    def verify(self, data: bytes, archive: Archive, what: str = "") -> Signed:
        return Signed(data, "A" * 40)


DATES = [
    b"Thu, 01 Jan 1970 00:00:00 UTC",
    b"Thu, 32 Foo 2024 99:99:99 +9999",
    b"Fri, 31 Dec 9999 23:59:59 -2359",
    b"Mon, 01 Jan 0001 00:00:00 +2359",
    b"1 2 3 4 5 6 7",
    b"Sat, 1 Jan 99999999999 00:00:00 GMT",
]


@dataclass(frozen=True)
class Listed:
    """An InRelease, the index that it lists, and how that is compressed."""

    changes: list[texts.Change]
    entry: bytes
    index: bytes
    packing: tuple[str, ...]
    suffix: str
    edits: list[edits.Edit]


LISTED = st.builds(
    Listed,
    changes=texts.changes([b"SHA256", b"Date", b"Valid-Until", b"Suite"], [*DATES, b"trixie"]),
    entry=st.sampled_from(
        [b""] * 6 + [b"\n " + b"0" * 64 + b" 99999999999999999999 " + INDEX.encode(), b"\n x y z"]
    ),
    index=st.one_of(st.just(b"Package: a\nVersion: 1\n"), st.binary(max_size=50), st.just(bytes(3_000_000))),
    packing=st.one_of(st.just(("xz",)), edits.PACKINGS),
    suffix=st.sampled_from([".xz", ".xz", ".gz", ""]),
    edits=st.one_of(st.just([]), edits.EDITS),
)


def check_listed(case: Listed, folder: Path) -> None:
    """Hold an accepted index to the size and hash that InRelease gives."""
    packed = edits.packed(case.index, case.packing)
    files = {INDEX: case.index, **({INDEX + case.suffix: packed} if case.suffix else {})}
    told = fields(files)
    told[-1] = (told[-1][0], told[-1][1] + case.entry)
    data = edits.edited(texts.stanza(told, case.changes), case.edits)
    found = release.verify(data, Trusting({}), ARCHIVE, "trixie", QUIET)
    store = DownloadCache(folder / "cache", RetryPolicy(tries=1, breaks=1, pause=0, connect=2, silence=2))
    for content in files.values():
        path = store.path(hashlib.sha256(content).hexdigest())
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    text = found.packages(store, "main", "amd64")
    if case.index.isascii():
        assert hashlib.sha256(text.encode()).hexdigest() == found.files[INDEX].sha256


@cache
def signed() -> tuple[Keys, bytes, bytes, bytes]:
    """Return keys with one archive, a text, that text signed, and signed by a key that is not pinned."""
    key_ring = KeyRing()
    atexit.register(key_ring.close)
    ours, other = key_ring.make(), key_ring.make("Other")
    folder = Path(mkdtemp(prefix="dindkit-fuzz-keys-"))
    atexit.register(shutil.rmtree, folder)
    file = folder / "debian.asc"
    file.write_bytes(key_ring.public(ours))
    text = texts.stanza(fields({INDEX: b"a"}), []) + b"- dashed\n"
    archive = Archive("debian", ARCHIVE.uris, "", ARCHIVE.suites, ("main",), (Key(file, ours, "made here"),))
    return Keys({"debian": archive}), text, key_ring.clear_sign(text, ours), key_ring.clear_sign(text, other)


@dataclass(frozen=True)
class Forged:
    """A signed file with faults: spliced from two, with lines put in, and with changed bytes."""

    lines: tuple[tuple[int, bytes], ...]
    drop: tuple[int, ...]
    splice: int
    edits: list[edits.Edit]


FORGED = st.builds(
    Forged,
    lines=st.lists(
        st.tuples(
            st.integers(0, 30),
            st.sampled_from(
                [
                    b"-----BEGIN PGP SIGNED MESSAGE-----",
                    b"-----BEGIN PGP SIGNATURE-----",
                    b"-----END PGP SIGNATURE-----",
                    b"-----BEGIN PGP MESSAGE-----",
                    b"Hash: MD5",
                    b"Hash: SHA256",
                    b"NotDashEscaped: yes",
                    b"Charset: x",
                    b"- Suite: sid",
                    b"- - x",
                    b"Suite: sid",
                    b" \t",
                    b"",
                    b"\r",
                    b"\0",
                    b"=abcd",
                ]
            ),
        ),
        max_size=3,
    ).map(tuple),
    drop=st.lists(st.integers(0, 30), max_size=2).map(tuple),
    splice=st.sampled_from([0, 0, 0, 1, 2]),
    edits=st.one_of(st.just([]), edits.EDITS),
)


def check_signed(case: Forged, folder: Path) -> None:
    """Whatever is accepted is the very text that the pinned key signed."""
    known, text, ours, other = signed()
    data = (ours, ours + other, other)[case.splice]
    lines = data.split(b"\n")
    for place in case.drop:
        del lines[place % len(lines)]
    for place, line in case.lines:
        lines.insert(place % len(lines), line)
    found = known.verify(edits.edited(b"\n".join(lines), case.edits), known.archive("debian"))
    # Of line ends and blanks before them, the signature covers neither (RFC 9580 §7.2).
    assert [line.rstrip() for line in found.text.strip().split(b"\n")] == [
        line.rstrip() for line in text.strip().split(b"\n")
    ]


@dataclass(frozen=True)
class Pins:
    """keys/archives.toml and its key file, with changed bytes."""

    key: list[edits.Edit]
    key_twice: bool
    table: list[edits.Edit]


PINS = st.builds(Pins, edits.EDITS, st.booleans(), st.one_of(st.just([]), edits.EDITS))


def check_pins(case: Pins, folder: Path) -> None:
    """Load keys that may be damaged."""
    known, _text, _ours, _other = signed()
    (key,) = known.archive("debian").keys
    data = edits.edited(key.file.read_bytes() * (1 + case.key_twice), case.key)
    (folder / "debian.asc").write_bytes(data)
    table = (
        '[archives.debian]\nuris = ["http://127.0.0.1:1"]\nsnapshot = ""\nsuites = { trixie = ["trixie"] }\n'
        'components = ["main"]\nkeys = ["debian.asc"]\n'
        f'[keys."debian.asc"]\nfingerprint = "{key.fingerprint}"\nprovenance = "made here"\n'
    )
    (folder / "archives.toml").write_bytes(edits.edited(table.encode(), case.table))
    keys.load(folder)


TARGETS = (
    Target(
        "InRelease and compressed indexes",
        LISTED,
        check_listed,
        Listed([], b"", b"Package: a\n", ("xz",), ".xz", []),
        30,
    ),
    Target("signatures", FORGED, check_signed, Forged((), (), 0, []), 5),
    Target("vendored keys", PINS, check_pins, Pins([], False, []), 4),
)
