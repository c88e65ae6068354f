"""What changed between two images, as plain data. `asdict` of Changes is what `--json` prints.

Sizes are in bytes, paths are absolute in the image. What could not be compared is None.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dindkit.formats import compare
from dindkit.packages import version
from dindkit.review.dpkg_database import DPKG
from dindkit.review.image_facts import Content, ImageFacts, Installed

ADDED, REMOVED, CHANGED = "added", "removed", "changed"


@dataclass(frozen=True)
class Side:
    """One of the two images."""

    name: str
    id: str
    packages: int
    files: int | None
    unpacked: int | None
    #: Bytes of all layers; None where an archive has them uncompressed.
    compressed: int | None


@dataclass(frozen=True)
class PackageChange:
    """A package that only one image has, or both in other versions or with other bytes."""

    name: str
    #: `added`, `removed`, `upgraded`, `downgraded`, `rebuilt` (one version, other bytes) or `changed`.
    change: str
    old: str
    new: str
    #: What brought it into the new image: `essential`, a recipe, or a package; empty for one that is gone.
    why: str
    #: Bytes of its files, unpacked.
    old_size: int | None
    new_size: int | None


@dataclass(frozen=True)
class FileChange:
    """A path that only one image has, or that differs in more than its time."""

    path: str
    change: str
    #: What differs, and what it was and is: `content, mode: …`; empty where it was added or removed.
    how: str
    #: The package that owns it; empty where none does.
    package: str
    #: Whether a change of its package, or dpkg's database of packages, accounts for it.
    expected: bool


@dataclass(frozen=True)
class Change:
    """Something else that has a name and a value: `change` is `added`, `removed` or `changed`."""

    name: str
    change: str
    old: str
    new: str


@dataclass(frozen=True)
class Changes:
    """Everything that differs between two images."""

    old: Side
    new: Side
    packages: tuple[PackageChange, ...]
    #: The signed InRelease files behind the locks; None where the old image's locks are not known.
    archives: tuple[Change, ...] | None
    privileges: tuple[Change, ...] | None
    ports: tuple[Change, ...] | None
    users: tuple[Change, ...] | None
    config: tuple[Change, ...] | None
    files: tuple[FileChange, ...] | None


def between(old: ImageFacts, new: ImageFacts) -> Changes:
    """Compare two images."""
    packages = tuple(_packages(old, new))
    both = (old.content, new.content) if old.content and new.content else None

    def of(get: Callable[[Content], Mapping[str, str]]) -> tuple[Change, ...] | None:
        return _named(get(both[0]), get(both[1])) if both else None

    return Changes(
        old=_side(old),
        new=_side(new),
        packages=packages,
        archives=_named(old.archives, new.archives) if old.archives and new.archives else None,
        privileges=of(lambda content: content.privileges),
        ports=of(lambda content: content.ports),
        users=of(lambda content: content.users),
        config=of(lambda content: content.config),
        files=_files(*both, {one.name.partition(":")[0] for one in packages}) if both else None,
    )


def _side(facts: ImageFacts) -> Side:
    content = facts.content
    sizes = [one.size for one in content.tree.entries.values() if one.kind == "file"] if content else None
    return Side(
        name=facts.name,
        id=facts.id,
        packages=len(facts.packages),
        files=None if sizes is None else len(sizes),
        unpacked=None if sizes is None else sum(sizes),
        compressed=content.compressed if content else None,
    )


def _named(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[Change, ...]:
    return tuple(
        Change(
            name,
            CHANGED if name in old and name in new else ADDED if name in new else REMOVED,
            old.get(name, ""),
            new.get(name, ""),
        )
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    )


def _packages(old: ImageFacts, new: ImageFacts) -> list[PackageChange]:
    found = []
    for name in sorted(old.packages.keys() | new.packages.keys()):
        before, after = old.packages.get(name), new.packages.get(name)
        kind = _kind(before, after)
        if kind:
            found.append(
                PackageChange(
                    name=name,
                    change=kind,
                    old=before.version if before else "",
                    new=after.version if after else "",
                    why=after.why if after else "",
                    old_size=old.content.sizes.get(name, 0) if old.content and before else None,
                    new_size=new.content.sizes.get(name, 0) if new.content and after else None,
                )
            )
    return found


def _kind(before: Installed | None, after: Installed | None) -> str:
    """Return how a package changed; empty where it did not, as far as is known of it."""
    if before is None or after is None:
        return ADDED if before is None else REMOVED
    order = version.compare(before.version, after.version)
    if order:
        return "upgraded" if order < 0 else "downgraded"
    if before.architecture != after.architecture or before.version != after.version:
        return CHANGED
    return "rebuilt" if before.sha256 and after.sha256 and before.sha256 != after.sha256 else ""


def _files(old: Content, new: Content, changed: set[str]) -> tuple[FileChange, ...]:
    found = []
    words = {"extra": ADDED, "missing": REMOVED}
    for one in compare.entries(old.tree.entries.values(), new.tree.entries.values(), times=False):
        package = new.database.owner(one.path) or old.database.owner(one.path)
        expected = package in changed or f"{one.path}/".startswith(f"{DPKG}/")
        change = words.get(one.how, CHANGED)
        how = f"{one.how}: {one.detail}" if change == CHANGED else ""
        found.append(FileChange(f"/{one.path}", change, how, package, expected))
    return tuple(found)
