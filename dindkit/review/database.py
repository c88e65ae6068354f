"""dpkg's database inside a tree: which package owns which path, and what its scripts say.

Formats: dpkg's info/*.list and *.md5sums (one path per line), diversions (three lines each), and the
Conffiles field of status, deb-conffiles(5).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from dindkit.formats.tree import Tree

DPKG = "var/lib/dpkg"
_INFO = f"{DPKG}/info/"
#: Files of info/ that dpkg runs, or that make another package's script run.
_SCRIPTS = ("preinst", "postinst", "config", "triggers")
_LINKS_DEEP = 8


@dataclass(frozen=True)
class Database:
    """Who owns what. All paths are relative and lead through no symbolic link."""

    #: Packages by path; a folder may have many.
    owners: Mapping[str, tuple[str, ...]]
    #: MD5 in hex of a file as its package shipped it. A guard against accidents, not against attackers.
    shipped: Mapping[str, str]
    #: The text of each package's scripts.
    scripts: Mapping[str, str]

    def owner(self, path: str) -> str:
        """Return the package that owns `path`, the first by name where several do, or an empty string."""
        return self.owners.get(path, ("",))[0]


def read(tree: Tree) -> Database:
    """Read the database of `tree`; of a tree without one it is empty."""
    resolve = PathResolver(tree)
    diverted = _diversions(tree)
    owners: dict[str, set[str]] = {}
    shipped: dict[str, str] = {}
    scripts: dict[str, str] = {}
    for path in tree.below(_INFO.rstrip("/")):
        stem, _, kind = path.removeprefix(_INFO).rpartition(".")
        package = stem.partition(":")[0]
        if kind == "list":
            for line in tree.text(path).splitlines():
                owners.setdefault(resolve(_where(diverted, line, package)), set()).add(package)
        elif kind == "md5sums":
            for line in tree.text(path).splitlines():
                digest, _, name = line.partition("  ")
                shipped[resolve(_where(diverted, f"/{name}", package))] = digest
        elif kind in _SCRIPTS:
            scripts[package] = scripts.get(package, "") + tree.text(path)
    for name, digest in _conffiles(tree):
        shipped[resolve(name)] = digest
    return Database({path: tuple(sorted(names)) for path, names in owners.items()}, shipped, scripts)


class PathResolver:
    """Turns a path as a package writes it into the path where the file lies (`/bin/sh` is `usr/bin/sh`)."""

    def __init__(self, tree: Tree) -> None:
        self._links = {path: entry.link for path, entry in tree.entries.items() if entry.kind == "symlink"}
        self._folder = lru_cache(maxsize=None)(self._resolve_folder)

    def __call__(self, path: str) -> str:
        """Resolve every folder on the way to `path`, but not `path` itself."""
        folder, _, name = path.strip("/").removeprefix(".").strip("/").rpartition("/")
        return f"{self._folder(folder)}/{name}" if folder else name

    def target(self, path: str) -> str:
        """Return where the symbolic link at `path` ends, through further links; `path` where it is none."""
        for _ in range(_LINKS_DEEP):
            if path not in self._links:
                break
            path = self(_join(path, self._links[path]))
        return path

    def _resolve_folder(self, folder: str) -> str:
        return self.target(self(folder))


def _join(path: str, link: str) -> str:
    """Return where `link` leads from `path`, seen from the root."""
    parts: list[str] = [] if link.startswith("/") else path.split("/")[:-1]
    for part in link.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _diversions(tree: Tree) -> dict[str, tuple[str, str]]:
    """Diverted path -> where it is diverted to, and the package that keeps the path itself."""
    lines = tree.text(f"{DPKG}/diversions").splitlines()
    triples = zip(lines[0::3], lines[1::3], lines[2::3], strict=False)
    return {path: (aside, package) for path, aside, package in triples}


def _where(diverted: Mapping[str, tuple[str, str]], path: str, package: str) -> str:
    aside, keeper = diverted.get(path, (path, package))
    return path if keeper == package else aside


def _conffiles(tree: Tree) -> Iterator[tuple[str, str]]:
    for block in re.findall(r"(?m)^Conffiles:\n((?: .*\n)+)", tree.text(f"{DPKG}/status")):
        for line in block.splitlines():
            words = line.split()
            if "obsolete" not in words[2:] and len(words) >= 2:
                yield words[0], words[1]
