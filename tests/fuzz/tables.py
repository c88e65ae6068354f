"""Locks and recipes: TOML with values of another type, shape and length than they should have."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from dindkit.formats.contents import ContentStore
from dindkit.formats.layer import extract_tree
from dindkit.formats.tree import Tree
from dindkit.image import accounts, recipe
from dindkit.image.assemble import Rules
from dindkit.packages import lock
from dindkit.project import Project
from tests.fuzz import edits
from tests.fuzz.debs import same_again, whole
from tests.fuzz.jail import contained
from tests.fuzz.target import Target
from tests.packages.test_lock import LOCK

ODD_TEXTS = [
    "",
    "a",
    "../../etc",
    "/etc/passwd",
    "é\u202e",
    "\x1b[2J",
    "a\nb",
    "a" * 5000,
    "0" * 64,
    "sha256:x",
    "[",
    "*[!",
    "\x7f",
    "/a//b/./c/",
    "0777",
]


@dataclass(frozen=True)
class Raw:
    """TOML that goes into a document as it is."""

    text: str


ODD_VALUES = [
    True,
    -1,
    1 << 62,
    [],
    {},
    [[]],
    Raw("1.5"),
    Raw("nan"),
    Raw("2024-02-30T00:00:00Z"),
    Raw("0001-01-01T00:00:00+23:59"),
    Raw("9999-12-31T23:59:59-23:59"),
    Raw("1979-05-27"),
    Raw("07:32:00"),
    Raw("1" * 5000),
    Raw("[" * 500 + "]" * 500),
    Raw('"\\uD800"'),
    Raw('"\\u0000"'),
    Raw("{ a = 1 }"),
]

VALUES = st.one_of(st.sampled_from(ODD_VALUES), st.sampled_from(ODD_TEXTS))
CHANGES = st.lists(
    st.tuples(
        st.lists(st.integers(0, 30), max_size=5), st.sampled_from(["set", "set", "drop", "add"]), VALUES
    ),
    max_size=3,
)


def changed(table: Any, steps: list[int], kind: str, value: Any) -> Any:
    """Return `table` with one value set, dropped or added where `steps` (modulo sizes) lead."""
    if not isinstance(table, dict | list) or not table:
        return value
    keys = list(table) if isinstance(table, dict) else list(range(len(table)))
    key = keys[steps[0] % len(keys)] if steps else keys[0]
    copy: Any = dict(table) if isinstance(table, dict) else list(table)
    if len(steps) > 1:
        copy[key] = changed(copy[key], steps[1:], kind, value)
    elif kind == "drop":
        del copy[key]
    elif kind == "add" and isinstance(copy, dict):
        copy[value if isinstance(value, str) else "new"] = copy[key]
    elif kind == "add":
        copy.append(value)
    else:
        copy[key] = value
    return copy


def toml(value: Any) -> str:
    """Render a value inline."""
    if isinstance(value, Raw):
        return value.text
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {toml(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value).replace("\x7f", "\\u007f")
    return json.dumps(value)


def document(table: Any) -> str:
    """Render a document."""
    if not isinstance(table, dict):
        return toml(table)
    return "".join(f"{json.dumps(key)} = {toml(value)}\n" for key, value in table.items())


@dataclass(frozen=True)
class Table:
    """A document with changes of values, then of bytes."""

    changes: list[tuple[list[int], str, Any]]
    edits: list[edits.Edit]

    def encoded(self, table: Any) -> bytes:
        """Return its bytes."""
        for steps, kind, value in self.changes:
            table = changed(table, steps, kind, value)
        return edits.edited(document(table).encode("utf-8", "surrogatepass"), self.edits)


TABLES = st.builds(Table, CHANGES, st.one_of(st.just([]), st.just([]), edits.EDITS))


def _lock_table() -> dict[str, Any]:
    records = [{**vars(one), "date": Raw("2023-11-14T22:13:20Z")} for one in LOCK.archives]
    assert LOCK.expected
    return {
        "image": LOCK.image,
        "suite": LOCK.suite,
        "architecture": LOCK.architecture,
        "engine": LOCK.engine,
        "parent": LOCK.parent,
        "identity": lock.identity(LOCK),
        "epoch": LOCK.epoch,
        "expected": {"image_id": LOCK.expected.image_id, "diff_ids": list(LOCK.expected.diff_ids)},
        "archives": records,
        "packages": [vars(row) for row in LOCK.rows],
    }


def check_lock(case: Table, folder: Path) -> None:
    """Hold an accepted lock to this: but for the ids of what it builds, it is the one that was made."""
    path = folder / "a.lock"
    path.write_bytes(case.encoded(_lock_table()))
    read = lock.read(path)
    assert lock.identity(read) == lock.identity(LOCK)
    assert replace(read, expected=None) == replace(LOCK, expected=None)
    lock.write(read, folder / "b.lock")
    assert lock.read(folder / "b.lock") == read


RECIPE = {
    "title": "app",
    "description": "for tests",
    "parent": "base",
    "packages": ["app", "sh"],
    "slim": {"exclude": ["/usr/share/doc/*"], "include": ["/usr/share/doc/*/copyright"]},
    "sources": {"debian": "/usr/share/keyrings/debian-archive-keyring.pgp"},
    "groups": {"docker": 2375},
    "users": {
        "dev": {"uid": 900, "gid": 900, "home": "/home/dev", "shell": "/bin/sh", "subids": [100000, 65536]}
    },
    "folders": {"/var/lib/docker": "0711", "/certs": "1777"},
    "links": {"/usr/bin/dind": "docker"},
    "engines": {
        "docker.io": {
            "packages": ["docker.io"],
            "archive": "debian",
            "exclude": ["/x*"],
            "links": {"/y": "z"},
        }
    },
    "config": {
        "entrypoint": ["/usr/bin/dind"],
        "cmd": ["sh"],
        "env": {"PATH": "/usr/bin"},
        "volumes": ["/var/lib/docker"],
        "ports": ["2375/tcp"],
        "labels": {"a": "b"},
        "user": "dev",
        "workdir": "/home/dev",
        "healthcheck": {"test": ["CMD", "/usr/bin/dind"], "interval": 5},
    },
}


def check_recipe(case: Table, folder: Path) -> None:
    """Put what an accepted recipe says into a tree, and hold that to what every tree must be."""
    project = Project(folder, folder / "state", folder / "cache")
    for name, data in (("base", b"essential = true\n"), ("app", case.encoded(RECIPE))):
        (folder / "images" / name).mkdir(parents=True)
        (folder / "images" / name / "image.toml").write_bytes(data)
    found = recipe.with_parents(project, "app")[-1]
    rules = Rules(
        (*found.slim.exclude, *found.engines.get("docker.io", recipe.Engine()).exclude), found.slim.include
    )
    rules.leaves_out("usr/share/doc/x")
    assert isinstance(rules.text, str)
    contents = ContentStore(folder)
    tree = Tree(contents)
    accounts.prepare(tree, found, 1_700_000_000)
    for name in ("etc/passwd", "etc/group"):
        for line in tree.text(name).splitlines():
            assert line.count(":") in (3, 6), line
    whole(tree)
    same_again(tree, contents)
    contained(folder, lambda root: extract_tree(tree, root))
    contents.close()


TARGETS = (
    Target("locks", TABLES, check_lock, Table([], []), 60),
    Target("recipes", TABLES, check_recipe, Table([], []), 30),
)
