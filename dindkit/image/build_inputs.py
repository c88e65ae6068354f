"""All that an image is built from: recipe, engine, lock, keys and parent; and the digest of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from dindkit.formats.entry import by_bytes
from dindkit.image.recipe import Engine, Recipe
from dindkit.packages import lock as locks
from dindkit.packages.keys import Keys
from dindkit.packages.lock import REQUESTED, Lock, Row

#: The folder in the image with vendored keys, for archives whose keyring is in no package.
KEYRINGS = "etc/apt/keyrings"


@dataclass(frozen=True)
class BuildInputs:
    """What one image is built from: its recipe, the engine chosen, its lock, and its parent's inputs."""

    recipe: Recipe
    #: Name of the engine; empty where neither the recipe nor its parents have engines.
    choice: str
    lock: Lock
    keys: Keys
    parent: BuildInputs | None
    #: False where the packages were solved anew because a locked file is gone.
    from_lock: bool

    @property
    def engine(self) -> Engine:
        """The engine that this recipe adds; an empty one where it adds none."""
        return self.recipe.engines.get(self.choice, Engine())

    @property
    def tag(self) -> str:
        """The image's reference in engines."""
        return f"dindkit/{self.recipe.name}:{self.lock.suite}"

    @property
    def rows(self) -> tuple[Row, ...]:
        """All packages of the image, parents' included."""
        return (*(self.parent.rows if self.parent else ()), *self.lock.rows)

    @property
    def requested(self) -> tuple[str, ...]:
        """The packages that the recipe and its engine name."""
        return tuple(sorted((*self.recipe.packages, *self.engine.packages)))

    @property
    def automatic(self) -> frozenset[str]:
        """The packages that nobody asked for by name, apt-mark(8)'s `auto`."""
        asked = {row.name for row in self.rows if row.why in (REQUESTED, locks.ESSENTIAL)}
        return frozenset(row.name for row in self.rows) - asked

    @property
    def epoch(self) -> int:
        """The time of everything new in the image, in seconds."""
        return max(self.lock.epoch, self.parent.epoch if self.parent else 0)

    @cached_property
    def sources(self) -> dict[str, str]:
        """Path -> text: apt's sources.list(5) entries, and the keys that they name."""
        texts: dict[str, str] = {}
        debian = [
            self.keys.archive(name).sources(self.lock.suite, signed_by)
            for name, signed_by in self.recipe.sources.items()
        ]
        if debian:
            texts["etc/apt/sources.list.d/debian.sources"] = "\n".join(debian)
        if self.engine.archive:
            archive = self.keys.archive(self.engine.archive)
            for key in archive.keys:
                texts[f"{KEYRINGS}/{key.file.name}"] = key.file.read_text("utf-8")
            signed_by = " ".join(f"/{KEYRINGS}/{key.file.name}" for key in archive.keys)
            texts[f"etc/apt/sources.list.d/{archive.name}.sources"] = archive.sources(
                self.lock.suite, signed_by
            )
        return texts


def rootfs(recipe: Recipe) -> list[Path]:
    """Return the files and links that the recipe copies as they are, sorted."""
    found = (path for path in recipe.rootfs.rglob("*") if path.is_symlink() or path.is_file())
    return sorted(found, key=lambda path: by_bytes(path.as_posix()))


def mode(path: Path) -> int:
    """Return the mode that a file of a recipe has in the image.

    Git keeps only the executable bit, and the umask of a checkout must not matter.
    """
    return 0o755 if path.stat().st_mode & 0o100 else 0o644


def files(recipe: Recipe) -> Iterator[list[Any]]:
    """Yield name, mode and SHA-256 of each file that the recipe copies; for a link its target."""
    for path in rootfs(recipe):
        name = path.relative_to(recipe.rootfs).as_posix()
        if path.is_symlink():
            yield [name, "link", str(path.readlink())]
        else:
            yield [name, mode(path), hashlib.sha256(path.read_bytes()).hexdigest()]


def values(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe's values for hashing as JSON, the same on every host and Python.

    The path of its rootfs folder is left out: the files in it are hashed one by one.
    """
    found = asdict(recipe)
    del found["rootfs"]
    # Keys that came later: a recipe without them keeps its ids.
    for table, keys in (
        (found, ("owners", "capabilities")),
        *((user, ("groups",)) for user in found["users"].values()),
    ):
        for key in keys:
            if not table[key]:
                del table[key]
    return found


def revision(inputs: BuildInputs) -> str:
    """Return the SHA-256 of everything that the image is built from, but for our own code.

    It is one of the image's labels, so it must not depend on the ids in the lock, which depend on it.
    """
    plain = replace(inputs.lock, parent="", expected=None)
    parts = [
        revision(inputs.parent) if inputs.parent else "",
        locks.content(plain),
        values(inputs.recipe),
        inputs.choice,
        list(files(inputs.recipe)),
        inputs.sources,
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
