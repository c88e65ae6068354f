"""What two images are compared by: of one that was built here, and of any image archive."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dindkit.formats.contents import ContentStore
from dindkit.formats.image_archive import open_archive
from dindkit.formats.layer import PLAIN
from dindkit.formats.oci import timestamp
from dindkit.formats.tree import Tree
from dindkit.image.build_inputs import BuildInputs
from dindkit.packages.lock import ESSENTIAL, Row
from dindkit.review import dpkg_database, privileges
from dindkit.review.dpkg_database import DPKG, Database, PathResolver
from dindkit.review.gather import ImageContents


@dataclass(frozen=True)
class Installed:
    """A package; what only locks know is empty where no lock was read."""

    version: str
    architecture: str
    sha256: str = ""
    why: str = ""


@dataclass(frozen=True)
class Content:
    """The files of an image, and what follows from them."""

    tree: Tree
    database: Database
    #: Bytes of each package's files.
    sizes: Mapping[str, int]
    #: Path -> what it gives: `set-uid root, 4755 0:0`.
    privileges: Mapping[str, str]
    ports: Mapping[str, str]
    users: Mapping[str, str]
    #: What a container is started with, one value to a name: `Env PATH`.
    config: Mapping[str, str]
    #: Bytes of all layers; None where the archive has them uncompressed.
    compressed: int | None


@dataclass(frozen=True)
class ImageFacts:
    """One side of a comparison."""

    #: What the user called it, or the image's reference.
    name: str
    #: The image's id, or the commit of a lock that could not be built.
    id: str
    packages: Mapping[str, Installed]
    #: InRelease files that the locks were made from: `debian trixie` -> date and signer. Empty without locks.
    archives: Mapping[str, str]
    #: None where there are only locks.
    content: Content | None


def of_built(name: str, image: ImageContents, chain: Sequence[BuildInputs]) -> ImageFacts:
    """Return the facts of an image that was built here from the locks of `chain`."""
    content = _content(image.tree, image.config, sum(layer.size for layer in image.packed))
    return ImageFacts(name, image.built.image_id, *_locked(chain), content)


def of_locks(name: str, commit: str, chain: Sequence[BuildInputs]) -> ImageFacts:
    """Return what the locks of `chain` say, for an image that cannot be built."""
    return ImageFacts(name, commit, *_locked(chain), None)


def of_archive(name: str, path: Path, contents: ContentStore) -> ImageFacts:
    """Return the facts of the image in the archive at `path`. Raises ArchiveError and TreeError."""
    with open_archive(path) as archive:
        tree = archive.tree(contents)
        layers = archive.image.layers
        packed = sum(one.size for one in layers) if all(one.media_type != PLAIN for one in layers) else None
        config = archive.image.config.get("config")
        content = _content(tree, config if isinstance(config, dict) else {}, packed)
        return ImageFacts(name, archive.image_id, _installed(tree.text(f"{DPKG}/status")), {}, content)


def _content(tree: Tree, config: Mapping[str, Any], compressed: int | None) -> Content:
    database, resolve = dpkg_database.read(tree), PathResolver(tree)
    sizes = Counter[str]()
    for path, entry in tree.entries.items():
        if entry.kind == "file":
            sizes[database.owner(path)] += entry.size
    gives: dict[str, list[str]] = {}
    for one in privileges.privileges(tree, database):
        gives.setdefault(one.path, []).append(f"{one.what}, {one.mode} {one.owner}")
    return Content(
        tree=tree,
        database=database,
        sizes=sizes,
        privileges={path: "; ".join(what) for path, what in gives.items()},
        ports={one.port: one.why for one in privileges.ports(tree, resolve, config)},
        users={
            one.name: f"{one.uid}:{one.gid}, {one.home}, {one.shell}, password {one.password}"
            + (f", groups {', '.join(one.groups)}" if one.groups else "")
            for one in privileges.users(tree)
        },
        config=dict(_flat(config)),
        compressed=compressed,
    )


def _locked(chain: Sequence[BuildInputs]) -> tuple[dict[str, Installed], dict[str, str]]:
    packages = {
        row.name: Installed(row.version, row.architecture, row.sha256, _why(row, made))
        for made in chain
        for row in made.lock.rows
    }
    archives: dict[str, set[str]] = {}  # several where a child was locked from a later index than its parent
    for record in (record for made in chain for record in made.lock.archives):
        said = f"{timestamp(record.date)}, signed by {record.signer}"
        archives.setdefault(f"{record.archive} {record.suite}", set()).add(said)
    return packages, {name: "; ".join(sorted(said)) for name, said in archives.items()}


def _why(row: Row, made: BuildInputs) -> str:
    asked = {ESSENTIAL: ESSENTIAL, "requested": f"images/{made.recipe.name}/image.toml"}
    return asked.get(row.why, row.why)


def _installed(status: str) -> dict[str, Installed]:
    """Return the packages that dpkg's status file lists as installed; of any text, however odd."""
    found: dict[str, Installed] = {}
    for paragraph in status.split("\n\n"):
        lines = (line.partition(":") for line in paragraph.split("\n") if line[:1].strip())
        fields = {name.lower(): value.strip() for name, _, value in lines}
        if fields.get("package") and fields.get("status", "").endswith(" installed"):
            architecture = fields.get("architecture", "")
            name = fields["package"]
            if name in found:  # Multi-Arch: same
                name = f"{name}:{architecture}"
            found[name] = Installed(fields.get("version", ""), architecture)
    return found


def _flat(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each value of an image's configuration as text, under a name; of any JSON, however odd."""
    for key, value in sorted(config.items()):
        if isinstance(value, dict):
            for name, one in sorted(value.items()):
                yield f"{key} {name}", "" if one == {} else _text(one)
        elif key == "Env" and isinstance(value, list):
            for one in value:
                name, _, rest = _text(one).partition("=")
                yield f"{key} {name}", rest
        elif value not in (None, "", [], False):
            yield key, _text(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
