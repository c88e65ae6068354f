"""All that an image is built from: recipe, engine, lock, keys and parent; and the digest of it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from dindkit.image import rootfs
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
            # The file of the image below stays: a recipe adds to what apt reads.
            file = self.recipe.name if self.recipe.parent else "debian"
            texts[f"etc/apt/sources.list.d/{file}.sources"] = "\n".join(debian)
        if self.engine.archive:
            archive = self.keys.archive(self.engine.archive)
            for key in archive.keys:
                texts[f"{KEYRINGS}/{key.file.name}"] = key.file.read_text("utf-8")
            signed_by = " ".join(f"/{KEYRINGS}/{key.file.name}" for key in archive.keys)
            texts[f"etc/apt/sources.list.d/{archive.name}.sources"] = archive.sources(
                self.lock.suite, signed_by
            )
        return texts


def values(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe's values for hashing as JSON, the same on every host and Python.

    Where it lies is left out: the files of its rootfs are hashed one by one.
    """
    found = asdict(recipe)
    del found["folder"], found["outside"]
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
        list(rootfs.listed(inputs.recipe)),
        inputs.sources,
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
