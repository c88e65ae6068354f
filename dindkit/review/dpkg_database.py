"""dpkg's database inside a tree: which package owns which path, and the text of its scripts.

Formats: dpkg's info/*.list and *.md5sums (one path per line), diversions (three lines each), and the
Conffiles field of status, deb-conffiles(5).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from dindkit.formats.tree import MAX_TEXT, Tree, TreeError

DPKG = "var/lib/dpkg"
_INFO = f"{DPKG}/info/"
#: Suffixes of files in info/ that dpkg runs, or that trigger other packages' scripts.
_SCRIPTS = ("preinst", "postinst", "config", "triggers")
_LINKS_DEEP = 8
#: Links that a path may lead through: path_resolution(7).
_LINKS = 40
#: Bytes of a path: limits.h(0P).
_PATH_MAX = 4096
#: What looking up all folders may cost: each part of a path costs its length, and 32.
_STEPS = 1 << 27


@dataclass(frozen=True)
class Database:
    """Owners of paths. All paths are relative and lead through no symbolic link."""

    #: Path -> packages; a folder may have many.
    owners: Mapping[str, tuple[str, ...]]
    #: Path -> MD5 in hex of the file in its package. It shows accidental changes; it does not stop attackers.
    shipped: Mapping[str, str]
    #: Package -> text of its scripts.
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
    left = MAX_TEXT
    for path in tree.below(_INFO.rstrip("/")):
        left -= tree.entries[path].size
        if left < 0:
            raise TreeError(_INFO, f"it has more than {MAX_TEXT} bytes, where a text is to be read")
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
    """Resolves the path in a package to the path of the file in the tree (`/bin/sh` is `usr/bin/sh`).

    Links that go round in circles are left as they are, and so are paths that no system takes. Raises
    TreeError where links lead through so many others that it takes minutes.
    """

    def __init__(self, tree: Tree) -> None:
        self._left = _STEPS
        self._links = {path: entry.link for path, entry in tree.entries.items() if entry.kind == "symlink"}
        self._folder = lru_cache(maxsize=None)(self._resolve_folder)

    def __call__(self, path: str) -> str:
        """Return `path` with every folder on the way resolved, but not its last part."""
        if len(path) > _PATH_MAX:
            return path.strip("/")
        folder, _, name = path.strip("/").removeprefix(".").strip("/").rpartition("/")
        return f"{self._folder(folder)}/{name}".lstrip("/") if folder else name

    def target(self, path: str) -> str:
        """Return the file at the end of the symbolic links from `path`; `path` itself where it is no link."""
        for _ in range(_LINKS_DEEP):
            if path not in self._links:
                break
            path = self(_join(path, self._links[path]))
        return path

    def _resolve_folder(self, folder: str) -> str:
        left, done, links = folder.split("/")[::-1], list[str](), 0
        while left:
            part = left.pop()
            if part == "..":
                del done[-1:]
            elif part not in ("", "."):
                done.append(part)
                here = "/".join(done)
                self._left -= len(here) + 32
                if self._left < 0:
                    raise TreeError(folder[:80], "it leads through links to links without end")
                link = self._links.get(here)
                if link is not None:
                    links += 1
                    if links > _LINKS:
                        return folder
                    done = [] if link.startswith("/") else done[:-1]
                    left += link.split("/")[::-1]
        return "/".join(done)


def _join(path: str, link: str) -> str:
    """Return the target of `link` at `path`, relative to the root."""
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
