"""Packages indexes: what is solved from them makes a lock."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

from dindkit.packages import lock, make_lock
from dindkit.packages.index import PackageIndex
from dindkit.packages.lock import ReleaseRecord
from dindkit.packages.make_lock import FetchedIndexes
from dindkit.packages.solver import Request
from tests.fuzz import texts
from tests.fuzz.releases import ARCHIVE
from tests.fuzz.target import Target

NAMES = ["app", "lib", "sh", "virtual", "other"]
RELATIONS = st.one_of(
    st.sampled_from(
        ["", "lib", "lib (>= 1)", "lib | other", "virtual", "sh, lib", "other (<< 1~)", "app (= 1)"]
    ),
    st.sampled_from(
        [
            "(",
            ",",
            "|",
            "lib (",
            "LIB",
            "lib:any",
            "lib (>= )",
            "lib (= 1) (= 2)",
            "a" * 500,
            "é",
            "lib [amd64]",
        ]
    ),
)
VERSIONS = st.sampled_from(
    [
        "1.0",
        "1",
        "2:0~rc1-1",
        "0",
        "",
        "1:",
        ":1",
        "a",
        "1.٣",
        "٣:1",
        "²:1",
        "9" * 5000,
        "1-2-3",
        "-",
        "1\u00a0",
    ]
)


@dataclass(frozen=True)
class Offer:
    """A package of an index."""

    name: str
    version: str
    depends: str
    conflicts: str
    provides: str
    essential: bool
    changes: list[texts.Change]

    def encoded(self) -> bytes:
        """Return its stanza."""
        told = {
            "Package": self.name,
            "Version": self.version,
            "Architecture": "amd64",
            "Depends": self.depends,
            "Conflicts": self.conflicts,
            "Provides": self.provides,
            **({"Essential": "yes"} if self.essential else {}),
            "Filename": f"pool/{self.name}.deb",
            "Size": "100",
            "SHA256": "0" * 64,
        }
        known = [(name.encode(), value.encode()) for name, value in told.items()]
        return texts.stanza(known, self.changes)


def _offers(odd: bool) -> st.SearchStrategy[Offer]:
    changes = texts.changes(
        [b"Package", b"Version", b"Filename", b"Size", b"SHA256"], [b"../../etc", b"\xb2"]
    )
    return st.builds(
        Offer,
        name=st.sampled_from(NAMES),
        version=VERSIONS if odd else st.sampled_from(["1.0", "2:0~rc1-1"]),
        depends=RELATIONS if odd else st.sampled_from(["", "", "lib", "sh, lib", "virtual", "lib | other"]),
        conflicts=RELATIONS if odd else st.sampled_from(["", "", "", "other", "virtual"]),
        provides=st.sampled_from(
            ["", "", "virtual", "virtual (= 1)", "a | b", "app", "("] if odd else ["", "virtual"]
        ),
        essential=st.booleans(),
        changes=changes if odd else st.just([]),
    )


OFFERS = st.one_of(
    st.lists(_offers(odd=False), min_size=1, max_size=6),
    st.lists(st.one_of(_offers(odd=False), _offers(odd=False), _offers(odd=True)), min_size=1, max_size=6),
)


def check_offers(case: list[Offer], folder: Path) -> None:
    """Solve, and hold the lock to this: it is read as it was written."""
    package_index = PackageIndex("amd64")
    package_index.add(b"\n".join(one.encoded() for one in case).decode("utf-8", "replace"), "debian")
    record = ReleaseRecord("debian", "trixie", 1_700_000_000, "0" * 64, "A" * 40, "")
    found = FetchedIndexes("trixie", "amd64", (ARCHIVE,), (record,), package_index)
    made = make_lock.make(found, [Request("app")], image="app")
    path = folder / "new.lock"
    lock.write(made, path)
    assert lock.read(path) == made
    assert lock.render(lock.read(path)) == path.read_text()
    assert {row.name for row in made.rows} >= {"app"}


HONEST = [Offer("app", "1.0", "lib", "", "", False, []), Offer("lib", "2:0~rc1-1", "", "", "", True, [])]

TARGETS = (Target("packages of an index", OFFERS, check_offers, HONEST, 60),)
