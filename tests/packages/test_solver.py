"""The solver against apt itself, on the same indexes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dindkit.errors import RecipeError
from dindkit.packages import keys, make_lock, solver
from dindkit.packages.download_cache import DownloadCache
from dindkit.packages.solver import Request
from dindkit.progress import Progress
from tests.support.apt import Apt
from tests.support.archive import ArchiveBuilder, KeyRing, Pin, make_project, serve

#: name, version, fields: every trick that a dependency field can play.
TRICKS: list[tuple[str, str, dict[str, str]]] = [
    # alternatives
    ("plain-a", "1", {}),
    ("plain-b", "1", {}),
    ("broken", "1", {"Depends": "nonesuch"}),
    ("first-wins", "1", {"Depends": "plain-a | plain-b"}),
    ("first-missing", "1", {"Depends": "nonesuch | plain-b"}),
    ("first-broken", "1", {"Depends": "broken | plain-b"}),
    ("first-too-old", "1", {"Depends": "plain-a (>= 2) | plain-b"}),
    ("deep-broken", "1", {"Depends": "needs-broken | plain-b"}),
    ("needs-broken", "1", {"Depends": "plain-a, broken"}),
    # virtual packages
    ("mail-low", "1", {"Provides": "mail", "Priority": "extra"}),
    ("mail-high", "1", {"Provides": "mail", "Priority": "important"}),
    ("mail-mid", "1", {"Provides": "mail"}),
    ("wants-mail", "1", {"Depends": "mail"}),
    ("twin-1", "1", {"Provides": "twin"}),
    ("twin-2", "1", {"Provides": "twin"}),
    ("wants-twin", "1", {"Depends": "twin"}),
    ("wants-default-mail", "1", {"Depends": "mail-mid | mail"}),
    ("editor", "1", {}),
    ("other-editor", "1", {"Provides": "editor", "Priority": "required"}),
    ("wants-editor", "1", {"Depends": "editor"}),
    ("api-unversioned", "1", {"Provides": "api", "Priority": "required"}),
    ("api-old", "1", {"Provides": "api (= 1.0)", "Priority": "important"}),
    ("api-new", "1", {"Provides": "api (= 2.0)"}),
    ("wants-new-api", "1", {"Depends": "api (>= 1.5)"}),
    ("wants-old-api", "1", {"Depends": "api (<< 1.5)"}),
    ("shell", "1", {"Provides": "sh-like", "Essential": "yes"}),
    ("nice-shell", "1", {"Provides": "sh-like", "Priority": "required"}),
    ("wants-shell", "1", {"Depends": "sh-like"}),
    # versions
    ("many", "1.0~rc1", {"Depends": "plain-a"}),
    ("many", "1:0.5", {"Depends": "plain-b"}),
    ("many", "9.9", {"Depends": "plain-a"}),
    ("wants-many", "1", {"Depends": "many"}),
    ("wants-low-many", "1", {"Depends": "many (<< 1:0) | plain-a"}),
    # exclusions
    ("hates-a", "1", {"Conflicts": "plain-a"}),
    ("breaks-old", "1", {"Breaks": "plain-b (<< 2)"}),
    ("hates-mail", "1", {"Conflicts": "mail", "Provides": "mail"}),
    ("replaces-api", "1", {"Conflicts": "api (<< 2)", "Depends": "api (>= 2)"}),
    # the rest
    ("ring-1", "1", {"Depends": "ring-2"}),
    ("ring-2", "1", {"Depends": "ring-3 (>= 1)"}),
    ("ring-3", "1", {"Pre-Depends": "plain-a", "Depends": "ring-1"}),
    ("recommender", "1", {"Recommends": "plain-a", "Suggests": "plain-b"}),
    ("python", "1", {"Architecture": "amd64", "Multi-Arch": "allowed"}),
    ("no-python", "1", {"Architecture": "amd64", "Provides": "python"}),
    ("wants-any-python", "1", {"Depends": "python:any (>= 1)"}),
    ("wants-any-plain", "1", {"Depends": "plain-a:any | plain-b"}),
    ("foreign", "1", {"Depends": "plain-a:riscv64 | plain-b"}),
]

REQUESTS = [
    *[
        [name]
        for name in dict.fromkeys(name for name, _, _ in TRICKS)
        if name not in ("broken", "needs-broken")
    ],
    ["first-wins", "plain-b"],
    ["plain-b", "first-wins"],
    ["wants-mail", "mail-low"],
    ["mail-low", "wants-default-mail"],
    ["hates-a", "first-wins"],
    ["first-wins", "hates-a"],
    ["wants-mail", "hates-mail"],
    ["wants-shell", "shell"],
    ["replaces-api", "wants-new-api"],
    ["breaks-old", "plain-a", "first-wins"],
]

IMPOSSIBLE = [
    ["broken"],
    ["needs-broken"],
    ["hates-a", "plain-a"],
    ["plain-b", "breaks-old"],
    ["mail-low", "hates-mail"],
    ["hates-a", "ring-1"],
]


@pytest.fixture(scope="module")
def tricks(
    tmp_path_factory: pytest.TempPathFactory, key_ring: KeyRing, signer: str
) -> Iterator[tuple[make_lock.FetchedIndexes, Apt]]:
    folder = tmp_path_factory.mktemp("tricks")
    archive = ArchiveBuilder(folder / "archive", key_ring, signer)
    for name, version, fields in TRICKS:
        archive.add_deb(name, version, fields=fields)
    archive.publish("trixie")
    with serve(archive.folder) as server:
        project = make_project(folder / "project", Pin("debian", archive, server.url))
        pinned = keys.load(project.keys)
        found = make_lock.fetch_indexes(
            pinned, DownloadCache(project.cache), "trixie", "amd64", Progress(quiet=True)
        )
        entry = pinned.archive("debian").sources("trixie", str(project.keys / "debian.asc"))
        yield found, Apt(folder / "apt", entry)


def _solve(found: make_lock.FetchedIndexes, *names: str) -> dict[str, str]:
    made = solver.solve(found.package_index, [Request(name) for name in names], {"debian": False})
    return {one.package.name: one.package.version for one in made}


@pytest.mark.parametrize("names", REQUESTS, ids=" ".join)
def test_choice_equals_apt(tricks: tuple[make_lock.FetchedIndexes, Apt], names: list[str]) -> None:
    found, apt = tricks
    expected = apt.install(*names)
    assert expected, "apt refuses: the case shows nothing"
    assert _solve(found, *names) == expected


@pytest.mark.parametrize("names", IMPOSSIBLE, ids=" ".join)
def test_impossible_is_refused_as_by_apt(
    tricks: tuple[make_lock.FetchedIndexes, Apt], names: list[str]
) -> None:
    found, apt = tricks
    assert not apt.install(*names)
    with pytest.raises(RecipeError, match=r"cannot be met|exclude each other"):
        _solve(found, *names)
