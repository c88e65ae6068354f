"""The report of an audit, as plain data. `asdict` of a Report is what `--json` prints.

Sizes are in bytes, times are ISO 8601 in UTC, digests are in hex, paths are absolute in the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Image:
    """The image as a whole."""

    reference: str
    id: str
    suite: str
    architecture: str
    engine: str
    #: The date of its newest InRelease, which is the time of everything new in it.
    created: str
    #: Bytes of all its layers, compressed.
    size: int
    #: Bytes of all its files.
    unpacked: int
    #: Whether it was built from the committed lock.
    from_lock: bool
    #: What a container is started with (OCI image-spec, `config`).
    config: dict[str, Any]


@dataclass(frozen=True)
class Key:
    """A vendored key and what it may sign."""

    file: str
    fingerprint: str
    provenance: str
    archives: tuple[str, ...]
    #: Whether it has signed for anything in the image.
    used: bool


@dataclass(frozen=True)
class Archive:
    """One signed InRelease that the locks were made from."""

    name: str
    suite: str
    date: str
    sha256: str
    signer: str
    key: str
    snapshot: str
    #: Images whose locks name it.
    locks: tuple[str, ...]


@dataclass(frozen=True)
class Layer:
    """One layer: what the packages of a recipe, or its own files, change."""

    image: str
    digest: str
    diff_id: str
    size: int
    unpacked: int
    files: int


@dataclass(frozen=True)
class Package:
    """A package of a lock, with the size and number of its files in the tree."""

    name: str
    version: str
    architecture: str
    archive: str
    path: str
    size: int
    sha256: str
    layer: str
    #: From the recipe (or `essential`) down to the package that needed this one.
    why: tuple[str, ...]
    unpacked: int
    files: int
    #: Bytes of the compressed layers that its paths take; see `Space`.
    compressed: int
    #: Short names in its copyright file (DEP-5), of its whole source package; none where that is plain text.
    licences: tuple[str, ...]
    #: The path of its copyright file; empty where the image has none.
    copyright: str


@dataclass(frozen=True)
class File:
    """A path of the image that no package owns, or that is not as its package shipped it."""

    path: str
    kind: str
    mode: str
    owner: str
    size: int
    sha256: str
    link: str
    layer: str
    #: `recipe`, `entrypoint`, `maintainer script`, `dpkg` or `build`.
    origin: str
    by: str
    #: The package that owns the path, where one does.
    package: str


@dataclass(frozen=True)
class Privilege:
    """A file that gives privileges to whoever runs it, or that everybody may write."""

    path: str
    what: str
    mode: str
    owner: str
    package: str


@dataclass(frozen=True)
class Port:
    """A port or socket on which something may listen."""

    port: str
    why: str


@dataclass(frozen=True)
class User:
    """A line of /etc/passwd. `password` is `locked`, `none` or `set`."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str
    password: str
    groups: tuple[str, ...]


@dataclass(frozen=True)
class Space:
    """What one package, or one kind of file that no package owns, takes in one layer.

    `compressed` is counted in the compressed layer, block by block. What a package has in common with one
    that is before it in the layer is stored once, and counted for that one. Paths that a later layer changes
    or removes count, too. All rows of a layer together are the layer.
    """

    layer: str
    name: str
    #: Bytes of the files that the image has in the end.
    size: int
    package: bool
    compressed: int = 0


@dataclass(frozen=True)
class Update:
    """A newer version of a locked package in an archive whose signature was checked just now."""

    name: str
    locked: str
    available: str
    archive: str
    security: bool


@dataclass(frozen=True)
class UpdateCheck:
    """What the signed archives say now about the locked packages."""

    #: Security first, then by name.
    updates: tuple[Update, ...]
    #: How many locked packages the signed indexes list now with the same hash.
    confirmed: int
    #: The other locked packages: the archive has a newer version instead.
    superseded: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """Everything that an audit says."""

    image: Image
    keys: tuple[Key, ...]
    archives: tuple[Archive, ...]
    layers: tuple[Layer, ...]
    packages: tuple[Package, ...]
    unowned: tuple[File, ...]
    changed: tuple[File, ...]
    privileges: tuple[Privilege, ...]
    ports: tuple[Port, ...]
    users: tuple[User, ...]
    space: tuple[Space, ...]
    #: Only with `--updates`. `--json` prints this name, so it stays.
    now: UpdateCheck | None = None
