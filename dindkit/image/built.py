"""A built image in the state folder, and the file beside its archive that describes it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from dindkit.files import open_regular, replacing
from dindkit.formats.layer import Layer

#: Name of the bill of materials beside an archive.
SBOM = "sbom.spdx.json"


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

    @property
    def sbom(self) -> Path:
        """The SPDX 2.3 document of the image, JSON."""
        return self.archive.with_name(SBOM)


def read(folder: Path) -> Built | None:
    """Return the image kept in `folder`, or None where there is none."""
    try:
        with open_regular(folder / "built.json") as file:
            data = json.loads(file.read(LARGEST_DESCRIPTION))
        archive = folder / "image.tar"
        if archive.stat().st_size != data.pop("bytes"):
            return None
        kept = tuple(Layer(**layer) for layer in data.pop("layers"))
        return Built(archive=archive, layers=kept, **data)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def write(built: Built) -> None:
    """Write what `read` reads; the archive must be complete by then."""
    data = asdict(replace(built, archive=Path()))
    del data["archive"]
    data["bytes"] = built.archive.stat().st_size
    with replacing(built.archive.parent / "built.json") as file:
        file.write(json.dumps(data, indent=1).encode())
