"""`invoke build`: from locks to an archive, from the cache where nothing has changed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dindkit.files import replacing
from dindkit.image import inputs
from dindkit.image.inputs import Ingredients
from dindkit.image.layer import Layer
from dindkit.image.order import Order, resolve
from dindkit.packages.lock import Row
from dindkit.progress import Progress, size
from dindkit.project import Project

if TYPE_CHECKING:
    from dindkit.image.sandbox import Sandbox

__all__ = ["Built", "Order", "build", "lock"]


#: Name of the bill of materials beside an archive.
SBOM = "sbom.spdx.json"


@dataclass(frozen=True)
class Built:
    """An image in the state folder."""

    #: `dindkit/dind:trixie`
    reference: str
    #: `sha256:…` of the configuration
    image_id: str
    #: A tar that `docker load` and OCI tools read.
    archive: Path
    #: In the whole image, parents included.
    packages: int
    #: Bytes of all layers, compressed.
    size: int
    from_lock: bool
    #: Lowest first.
    layers: tuple[Layer, ...]

    @property
    def sbom(self) -> Path:
        """The SPDX 2.3 document of the image, JSON."""
        return self.archive.with_name(SBOM)


def build(
    project: Project,
    order: Order,
    progress: Progress,
    output: Path | None = None,
    sandbox: Sandbox | None = None,
) -> Built:
    """Build the image that `order` names, and its parents, from their locks.

    What was built from the same inputs before is taken from the state folder. `output` gets a copy of the
    archive. Maintainer scripts run in `sandbox`, by default sandbox.Anywhere. Raises DindkitError; nothing
    half-written is left then, and earlier images are untouched.
    """
    chain = resolve(project, order, progress)
    built = _load(_folder(project, chain[-1]))
    if built is None:
        built = _line(project, order, chain, progress, sandbox)
    if output:
        _copy(built.archive, output)
    return built


def summary(built: Built, progress: Progress) -> str:
    """Return one line: packages, compressed size, and the time that each step of `progress` took."""
    times = "".join(f", {title} {seconds:.1f} s" for title, seconds in progress.timings.items())
    return f"{built.packages} packages, {size(built.size)} compressed{times}"


def lock(project: Project, order: Order, progress: Progress, *, allow_downgrade: bool = False) -> None:
    """Solve, verify, write the locks of the ordered image and its parents, print the difference.

    Raises DindkitError; all committed locks are as they were then.
    """
    from dindkit.image import locking

    locking.lock(project, order, progress, allow_downgrade=allow_downgrade)


def _line(
    project: Project, order: Order, chain: list[Ingredients], progress: Progress, sandbox: Sandbox | None
) -> Built:
    """Build what is not there yet of `chain`, and return the last image."""
    from dindkit.packages.store import GoneError

    try:
        files = _fetch(project, chain, progress)
    except GoneError as gone:
        if order.frozen:
            raise
        from dindkit.image import locking

        chain = locking.heal(project, order, chain, gone, progress)
        files = _fetch(project, chain, progress)
    first, *rest = chain
    built = _one(project, first, files, None, progress, sandbox)
    for ingredients in rest:
        built = _one(project, ingredients, files, built, progress, sandbox)
    return built


def _folder(project: Project, ingredients: Ingredients) -> Path:
    return project.state / "images" / f"{ingredients.recipe.name}-{inputs.key(ingredients)[:32]}"


def _fetch(project: Project, chain: list[Ingredients], progress: Progress) -> dict[Row, Path]:
    """Return the packages of every image of `chain` that has to be built."""
    from dindkit.packages.store import Store

    missing = [ingredients for ingredients in chain if _load(_folder(project, ingredients)) is None]
    rows = [row for ingredients in missing for row in ingredients.lock.rows]
    snapshots = {name: at for ingredients in missing for name, at in ingredients.lock.snapshots.items()}
    return Store(project.cache).fetch(rows, chain[-1].keys, progress, snapshots) if rows else {}


def _one(
    project: Project,
    ingredients: Ingredients,
    files: Mapping[Row, Path],
    parent: Built | None,
    progress: Progress,
    sandbox: Sandbox | None,
) -> Built:
    folder = _folder(project, ingredients)
    with _alone(folder):
        found = _load(folder)  # another build may have made it meanwhile
        if found:
            return found
        from dindkit.image import make

        own = {row: files[row] for row in ingredients.lock.rows}
        return make.make(project, ingredients, own, parent, folder, progress, sandbox)


def _load(folder: Path) -> Built | None:
    """Return the image kept in `folder`, or None where there is none."""
    try:
        data = json.loads((folder / "built.json").read_text("utf-8"))
        archive = folder / "image.tar"
        if archive.stat().st_size != data.pop("bytes"):
            return None
        kept = tuple(Layer(**layer) for layer in data.pop("layers"))
        return Built(archive=archive, layers=kept, **data)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def keep(built: Built) -> None:
    """Write what `_load` reads; the archive must be complete by then."""
    data = asdict(replace(built, archive=Path()))
    del data["archive"]
    data["bytes"] = built.archive.stat().st_size
    with replacing(built.archive.parent / "built.json") as file:
        file.write(json.dumps(data, indent=1).encode())


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process at a time make the image in `folder`."""
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _copy(archive: Path, output: Path) -> None:
    """Copy the archive to `output` in one step."""
    import shutil

    with archive.open("rb") as source, replacing(output) as file:
        shutil.copyfileobj(source, file, 1 << 20)
