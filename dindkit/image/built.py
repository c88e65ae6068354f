"""A built image in the state folder, and the file beside its archive that says what its layers are.

Neither is believed because it lies there. When an image is looked up, its documents are held against recipe
and lock; whenever the archive is opened they are hashed, and layers as they are read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from dindkit.files import open_regular, replacing
from dindkit.formats.image_archive import Archive, ArchiveError, open_archive
from dindkit.formats.layer import Layer
from dindkit.formats.oci import digest, document
from dindkit.image.describe import describe_image
from dindkit.image.inputs import Ingredients

ANEW = "It is built anew by: invoke build"

#: Bytes of built.json.
LARGEST_DESCRIPTION = 1_000_000


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
    ingredients: Ingredients = field(repr=False, compare=False)


def of(ingredients: Ingredients, layers: tuple[Layer, ...], folder: Path) -> Built:
    """Return the image that `ingredients` and `layers`, lowest first, make, as it is kept in `folder`."""
    return Built(
        reference=ingredients.tag,
        image_id=describe_image(ingredients, layers).image_id,
        archive=folder / "image.tar",
        packages=len(ingredients.rows),
        size=sum(one.size for one in layers),
        from_lock=ingredients.from_lock,
        layers=layers,
        ingredients=ingredients,
    )


def read(folder: Path, ingredients: Ingredients) -> Built | None:
    """Return the image of `ingredients` that is kept in `folder`, or None where there is none.

    Its configuration and manifest are those that follow from `ingredients` and the layers that built.json
    names. Raises ArchiveError where the files are not what a build has left there, and DindkitError where
    something else has taken their place.
    """
    try:
        with open_regular(folder / "built.json") as file:
            kept = json.loads(file.read(LARGEST_DESCRIPTION))
        built = of(ingredients, tuple(Layer(**layer) for layer in kept["layers"]), folder)
        if built.archive.stat().st_size != kept["bytes"]:
            return None
        manifest = digest(document(describe_image(ingredients, built.layers).manifest))
        with opened(built) as archive:
            if kept["image_id"] != built.image_id or archive.ids != {built.image_id, manifest}:
                raise forgery(built)
    except (FileNotFoundError, ValueError, LookupError, TypeError, RecursionError):
        return None
    return built


def write(built: Built) -> None:
    """Write what `read` reads; the archive must be complete by then."""
    kept = {
        "image_id": built.image_id,
        "bytes": built.archive.stat().st_size,
        "layers": [asdict(layer) for layer in built.layers],
    }
    with replacing(_description(built)) as file:
        file.write(json.dumps(kept, indent=1).encode())


def _description(built: Built) -> Path:
    return built.archive.with_name("built.json")


def forgery(built: Built) -> ArchiveError:
    """Return the error that says that the kept archive is another image's."""
    return ArchiveError(f"{built.archive} is damaged or forged: it is not the image that was built.", ANEW)


@contextmanager
def opened(built: Built, copy: Path | None = None) -> Iterator[Archive]:
    """Open the archive of `built`, or a `copy` of it, for layers to be read in the block and hashed by that.

    Raises ArchiveError where the archive is another image's, and where one is raised in the block. What the
    state folder says of it is forgotten then, so that the next build makes it anew.
    """
    try:
        with open_archive(copy or built.archive) as archive:
            if (archive.image_id, archive.image.layers) != (built.image_id, built.layers):
                raise forgery(built)
            yield archive
    except ArchiveError as error:
        _description(built).unlink(missing_ok=True)
        if copy:
            raise forgery(built) from error
        raise ArchiveError(error.cause, ANEW) from error
