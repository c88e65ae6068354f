"""The copyright file of each package in a tree, and the licences that it names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from dindkit.formats.tree import Tree
from dindkit.packages import copyright as copyrights
from dindkit.review.dpkg_database import DPKG, PathResolver
from dindkit.review.report import Package


def finder(tree: Tree, resolve: PathResolver) -> Callable[[str], tuple[str, tuple[str, ...]]]:
    """Return a function from a package to the path of its copyright file, and the licences in it.

    A package's folder in /usr/share/doc may be a link to that of another package of the same source (Debian
    Policy 12.5), and recipes may leave such links out: the other package's file is taken then. The path is
    empty where the tree has no file; no licences are named where it is not machine-readable.
    """
    of_source: dict[str, list[str]] = {}
    sources = _sources(tree.text(f"{DPKG}/status"))
    for package, source in sources.items():
        of_source.setdefault(source, []).append(package)

    def find(package: str) -> tuple[str, tuple[str, ...]]:
        for name in (package, *sorted(of_source.get(sources.get(package, ""), ()))):
            path = resolve.target(resolve(f"usr/share/doc/{name}/copyright"))
            if path in tree.entries and tree.entries[path].kind == "file":
                return f"/{path}", copyrights.licences(tree.text(path))
        return "", ()

    return find


#: In counts: the copyright file is a plain text; there is none.
PLAIN_TEXT, MISSING = "see copyright file", "no copyright file in the image"


def licence_counts(packages: Iterable[Package]) -> list[tuple[str, int]]:
    """Count packages by licence, the most frequent first; a package counts for each that its file names."""
    counts = Counter(
        name
        for package in packages
        for name in package.licences or ((PLAIN_TEXT if package.copyright else MISSING),)
    )
    return sorted(counts.items(), key=lambda one: (-one[1], one[0].lower(), one[0]))


def _sources(status: str) -> dict[str, str]:
    """Return the source of each package, with its version where that differs, as dpkg's status file says."""
    found: dict[str, str] = {}
    for paragraph in status.split("\n\n"):
        fields = dict(
            line.split(": ", 1)
            for line in paragraph.split("\n")
            if line.startswith(("Package: ", "Source: "))
        )
        if "Package" in fields:
            found[fields["Package"]] = fields.get("Source", fields["Package"])
    return found
