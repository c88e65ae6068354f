"""`invoke list`: the images in the state folder, and which of them a build would take as they are."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dindkit.errors import ArchiveError, DindkitError
from dindkit.files import open_regular
from dindkit.image import build, build_options, recipe_folders
from dindkit.image import built as built_images
from dindkit.image.build_options import BuildOptions
from dindkit.image.built import LARGEST_DESCRIPTION, Built
from dindkit.image.committed_locks import committed
from dindkit.packages.lock import IDENTITY
from dindkit.printing import result
from dindkit.progress import Progress, size
from dindkit.project import Project

#: Seconds of the units in which an age is told, largest first.
UNITS = {"day": 86400, "hour": 3600, "minute": 60, "second": 1}


@dataclass(frozen=True)
class Kept:
    """An image in the state folder."""

    reference: str
    image_id: str
    suite: str
    architecture: str
    engine: str
    #: Bytes of its layers, uncompressed.
    size: int
    #: When it was built: ISO 8601 in UTC, and seconds since then.
    built: str
    age: float
    #: The committed lock from which a build would take it; None where something has changed since.
    lock: str | None
    folder: str


def run(project: Project, progress: Progress, found: dict[str, Any]) -> None:
    """Print a table of the images, newest first, and put them into `found`: list-1.json."""
    images = kept(project, progress)
    found["images"] = [asdict(one) for one in images]
    if not images:
        progress.note("No image is built yet. Run: invoke build")
        return
    rows = [("IMAGE", "ID", "ARCH", "SIZE", "AGE", "LOCK")]
    rows += [
        (
            one.reference,
            one.image_id.removeprefix("sha256:")[:12],
            one.architecture,
            size(one.size),
            told(one.age),
            Path(one.lock).name if one.lock else _without_lock(project, one),
        )
        for one in images
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        result("   ".join(cells).rstrip())


def _without_lock(project: Project, image: Kept) -> str:
    """Return what stands for the lock of an image that no lock in images/ describes."""
    name = image.reference.removeprefix("dindkit/").partition(":")[0]
    return "none, or changed since" if name in recipe_folders.names(project) else "of a recipe elsewhere"


def kept(project: Project, progress: Progress) -> list[Kept]:
    """Return the images in the state folder, newest first.

    Those that a committed lock describes are checked against it; of others, built.json is believed.
    """
    found = {one.folder: one for one in _of_locks(project, progress)}
    for path in (project.state / "images").glob("*/built.json"):
        other = _described(path) if str(path.parent) not in found else None
        if other:
            found[other.folder] = other
    return sorted(found.values(), key=lambda one: one.age)


def _of_locks(project: Project, progress: Progress) -> list[Kept]:
    images = []
    for path, lock in committed(project, progress):
        options = BuildOptions(lock.image, lock.engine or "auto", lock.suite, lock.architecture)
        try:
            inputs = build_options.resolve(project, options)[-1]
            folder = build.folder_of(project, inputs)
            built = built_images.read(folder, inputs)
        except ArchiveError:
            continue  # a build would make it anew
        except DindkitError as error:
            progress.warn(str(error))
            continue
        if built:
            images.append(replace(_kept(built_images.about(built), built, folder), lock=str(path)))
    return images


def _described(path: Path) -> Kept | None:
    """Return the image as the file `built.json` at `path` describes it, or None where it is not one."""
    try:
        with open_regular(path) as file:
            text = json.loads(file.read(LARGEST_DESCRIPTION))
        about = {str(key): str(value) for key, value in text.get("about", {}).items()}
        about.setdefault("reference", f"dindkit/{path.parent.name.rpartition('-')[0]}")
        if not IDENTITY.fullmatch(text["image_id"]):
            return None
        return _made(
            about, text["image_id"], sum(int(layer["size"]) for layer in text["layers"]), path.parent
        )
    except (OSError, DindkitError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def _kept(about: Mapping[str, str], built: Built, folder: Path) -> Kept:
    return _made(about, built.image_id, built.size, folder)


def _made(about: Mapping[str, str], image_id: str, count: int, folder: Path) -> Kept:
    seconds = (folder / "built.json").stat().st_mtime
    return Kept(
        reference=about["reference"],
        image_id=image_id,
        suite=about.get("suite", ""),
        architecture=about.get("architecture", ""),
        engine=about.get("engine", ""),
        size=count,
        built=datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        age=round(max(0.0, time.time() - seconds), 3),
        lock=None,
        folder=str(folder),
    )


def told(seconds: float) -> str:
    """Return an age in its largest unit: `3 hours`."""
    for unit, length in UNITS.items():
        count = int(seconds // length)
        if count:
            return f"{count} {unit}{'s' * (count != 1)}"
    return "now"
