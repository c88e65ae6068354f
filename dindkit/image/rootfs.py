"""The files and links of a recipe's rootfs/, which are copied into the image as they are."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

from dindkit.errors import RecipeError
from dindkit.files import open_regular, read_bounded
from dindkit.formats.entry import by_bytes
from dindkit.image.recipe import Recipe

#: Beside a rootfs/ that was installed with the package: its links, and which of its files are executable.
#: A wheel holds no links, and installers set modes as they like. setup.py writes it.
PACKED = "rootfs.json"
#: Bytes of that file.
LARGEST_PACKED = 1_000_000


@dataclass(frozen=True)
class RootfsFile:
    """A file or a link of a recipe."""

    #: Path in the image, without a leading slash.
    name: str
    source: Path
    mode: int
    #: The target; empty for a file.
    link: str = ""

    def open(self) -> BufferedReader:
        """Open a file for reading. Raises DindkitError where something else has taken its place."""
        return open_regular(self.source)


def files(recipe: Recipe) -> list[RootfsFile]:
    """Return the files and links that the recipe copies as they are, sorted. Raises RecipeError."""
    return sorted(_found(recipe), key=lambda file: by_bytes(file.name))


def _found(recipe: Recipe) -> Iterator[RootfsFile]:
    packed = None if recipe.outside else _packed(recipe.folder / PACKED)
    for path in _paths(recipe.rootfs):
        name = path.relative_to(recipe.rootfs).as_posix()
        if path.is_symlink():
            yield RootfsFile(name, path, 0o777, str(path.readlink()))
        elif path.is_file():
            # Git keeps only the executable bit, and the umask of a checkout must not matter.
            executable = name in packed["executable"] if packed else path.stat().st_mode & 0o100
            yield RootfsFile(name, path, 0o755 if executable else 0o644)
        elif not path.is_dir():
            raise RecipeError(f"{path} is neither a file nor a folder nor a link.", "Remove it.")
    for name, target in packed["links"].items() if packed else ():
        yield RootfsFile(name, recipe.rootfs / name, 0o777, target)


def _paths(folder: Path) -> Iterator[Path]:
    """Yield what is below `folder`; nothing where it is missing. Raises RecipeError where it is no folder.

    Raises OSError for a folder that may not be read: nothing is left out.
    """
    if folder.is_symlink():  # then files of this machine would be copied that the recipe does not show
        raise RecipeError(
            f"{folder} is a symbolic link, where the recipe's own files should be.",
            "Put a folder in its place.",
        )
    if folder.exists() and not folder.is_dir():
        raise RecipeError(f"{folder} is no folder, and files are copied from one.", "Make it a folder.")

    def fail(error: OSError) -> None:
        raise error

    for place, folders, files in os.walk(folder, onerror=fail if folder.is_dir() else None):
        for name in (*folders, *files):
            yield Path(place, name)


def _packed(file: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(read_bounded(file, LARGEST_PACKED))
        return {"links": dict(found["links"]), "executable": frozenset(found["executable"])}
    except FileNotFoundError:
        return None
    except (ValueError, LookupError, TypeError) as error:
        raise RecipeError(f"{file} cannot be read: {error!r}.", "Install dindkit anew.") from None


def listed(recipe: Recipe) -> Iterator[list[Any]]:
    """Yield name, mode and SHA-256 of each file that the recipe copies; for a link its target."""
    for file in files(recipe):
        if file.link:
            yield [file.name, "link", file.link]
        else:
            with file.open() as source:
                yield [file.name, file.mode, hashlib.file_digest(source, "sha256").hexdigest()]
