"""Make a Report of a built image, its locks, recipes and keys."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dindkit.formats import layer as layers
from dindkit.formats import zstd_costs
from dindkit.formats.contents import ContentStore
from dindkit.formats.entry import Entry
from dindkit.formats.layer import Layer
from dindkit.formats.oci import timestamp
from dindkit.formats.tree import Tree
from dindkit.image.build_inputs import BuildInputs
from dindkit.image.built import Built, compressed, opened
from dindkit.image.image_config import PACKAGES, Source
from dindkit.packages.keys import Keys
from dindkit.packages.lock import ESSENTIAL, REQUESTED, Lock, Row
from dindkit.review import dpkg_database, file_origins, licences, privileges, report
from dindkit.review.dpkg_database import Database, PathResolver
from dindkit.review.file_origins import FileOrigin

#: In a report on space: what no single package takes.
SHARED = "folders of several packages"


@dataclass(frozen=True)
class ImageContents:
    """A built image, unpacked: its tree, and for each path the index of its layer in `built.layers`."""

    built: Built
    #: Each layer as registries get it.
    packed: Sequence[Layer]
    #: What each layer was made from: `dind packages`.
    names: Sequence[str]
    config: Mapping[str, Any]
    tree: Tree
    layer_of: Mapping[str, int]
    #: For each layer its paths, and the compressed bytes that each takes.
    costs: Sequence[Sequence[tuple[str, int]]]


def read(built: Built, contents: ContentStore) -> ImageContents:
    """Unpack a built image into `contents`, and compress its layers once. Raises DamagedError."""
    tree = Tree(contents)
    layer_of: dict[str, int] = {}
    with opened(built) as layout:
        for index, one in enumerate(layout.image.layers):
            entries = list(layout.entries(one, contents))
            layers.apply(tree, entries)
            layer_of |= {entry.path: index for entry in entries}
        config = layout.image.config.get("config", {})
    with compressed(built) as archive:
        packed = archive.image.layers
        costs = [zstd_costs.costs(archive.blob(one)) for one in packed]
    names = [str(source) for source in built.sources]
    return ImageContents(built, packed, names, config, tree, layer_of, costs)


def gather(image: ImageContents, chain: Sequence[BuildInputs]) -> report.Report:
    """Return the report on an image; `chain` goes from its first ancestor to itself."""
    tree = image.tree
    keys = chain[-1].keys
    locks = [made.lock for made in chain]
    known = dpkg_database.read(tree)
    resolve = PathResolver(tree)
    find = file_origins.finder(known, resolve, file_origins.of_recipes(chain, resolve))
    own = locks[-1]
    return report.Report(
        image=report.Image(
            reference=image.built.reference,
            id=image.built.image_id,
            suite=own.suite,
            architecture=own.architecture,
            engine=own.engine,
            created=timestamp(max(lock.epoch for lock in locks)),
            size=sum(layer.size for layer in image.packed),
            unpacked=sum(entry.size for entry in tree.entries.values() if entry.kind == "file"),
            from_lock=image.built.from_lock,
            config=dict(image.config),
        ),
        keys=tuple(_keys(keys, locks)),
        archives=tuple(_archives(keys, locks)),
        layers=tuple(_layers(image)),
        packages=tuple(_packages(image, known, chain, licences.finder(tree, resolve))),
        unowned=tuple(_unowned(image, known, find)),
        changed=tuple(_changed(image, known, find)),
        privileges=tuple(privileges.privileges(tree, known)),
        ports=tuple(privileges.ports(tree, resolve, image.config)),
        users=tuple(privileges.users(tree)),
        space=tuple(_space(image, known, find)),
    )


def _keys(keys: Keys, locks: Sequence[Lock]) -> Iterator[report.Key]:
    used = {origin.signer for lock in locks for origin in lock.archives}
    files = {key.file.name: key for archive in keys.archives.values() for key in archive.keys}
    for name, key in sorted(files.items()):
        trusted = tuple(sorted(archive.name for archive in keys.archives.values() if key in archive.keys))
        yield report.Key(name, key.fingerprint, key.provenance, trusted, key.fingerprint in used)


def _archives(keys: Keys, locks: Sequence[Lock]) -> Iterator[report.Archive]:
    files = {key.fingerprint: key.file.name for archive in keys.archives.values() for key in archive.keys}
    for origin in sorted({origin for lock in locks for origin in lock.archives}):
        yield report.Archive(
            name=origin.archive,
            suite=origin.suite,
            date=timestamp(origin.date),
            sha256=origin.sha256,
            signer=origin.signer,
            key=files.get(origin.signer, "no longer among the pinned keys"),
            snapshot=origin.snapshot,
            locks=tuple(lock.image for lock in locks if origin in lock.archives),
        )


def _layers(image: ImageContents) -> Iterator[report.Layer]:
    for index, (name, one) in enumerate(zip(image.names, image.packed, strict=True)):
        sizes = [
            entry.size
            for path, entry in image.tree.entries.items()
            if entry.kind == "file" and image.layer_of.get(path) == index
        ]
        yield report.Layer(name, one.digest, one.diff_id, one.size, sum(sizes), len(sizes))


def _packages(
    image: ImageContents,
    known: Database,
    chain: Sequence[BuildInputs],
    copyright_of: Callable[[str], tuple[str, tuple[str, ...]]],
) -> Iterator[report.Package]:
    sizes, counts = Counter[str](), Counter[str]()
    for path, entry in image.tree.entries.items():
        if entry.kind != "dir" and (owner := known.owner(path)):
            sizes[owner] += entry.size
            counts[owner] += 1
    packed = Counter[str]()
    for costs in image.costs:
        for path, cost in costs:
            packed[_owner(image, known, path)] += cost
    for made in chain:
        lock = made.lock
        rows = {row.name: row for row in lock.rows}
        for row in lock.rows:
            copyright_file, named = copyright_of(row.name)
            yield report.Package(
                name=row.name,
                version=row.version,
                architecture=row.architecture,
                archive=row.archive,
                path=row.path,
                size=row.size,
                sha256=row.sha256,
                layer=str(Source(lock.image, PACKAGES)),
                why=_chain(row, rows, f"{made.recipe.label}/image.toml"),
                unpacked=sizes[row.name],
                files=counts[row.name],
                compressed=packed[row.name],
                licences=named,
                copyright=copyright_file,
            )


def _chain(row: Row, rows: Mapping[str, Row], recipe: str) -> tuple[str, ...]:
    chain: list[str] = []
    while row.why not in (ESSENTIAL, REQUESTED):
        chain.insert(0, row.why)
        row = rows[row.why]
    return (ESSENTIAL if row.why == ESSENTIAL else recipe, *chain)


def _file(image: ImageContents, entry: Entry, origin: FileOrigin, package: str = "") -> report.File:
    return report.File(
        path=f"/{entry.path}",
        kind=entry.kind,
        mode=f"{entry.mode:04o}",
        owner=f"{entry.uid}:{entry.gid}",
        size=entry.size,
        sha256=entry.digest,
        link=entry.link,
        layer=image.names[image.layer_of.get(entry.path, 0)],
        origin=origin.kind,
        by=origin.by,
        package=package,
    )


def _unowned(
    image: ImageContents, known: Database, find: Callable[[str], FileOrigin]
) -> Iterator[report.File]:
    for path in image.tree.paths():
        if path and path not in known.owners:
            yield _file(image, image.tree.entries[path], find(path))


def _changed(
    image: ImageContents, known: Database, find: Callable[[str], FileOrigin]
) -> Iterator[report.File]:
    """Yield files of packages whose content differs from the package's: mostly configuration."""
    tree = image.tree
    for path in tree.paths():
        entry = tree.entries[path]
        if entry.kind == "file" and path in known.shipped and path in known.owners:
            digest = hashlib.md5(usedforsecurity=False)
            for chunk in tree.contents.chunks(entry.digest):
                digest.update(chunk)
            if digest.hexdigest() != known.shipped[path]:
                yield _file(image, entry, find(path), known.owner(path))


def _owner(image: ImageContents, known: Database, path: str) -> str:
    """Return the package that owns `path`; an empty string where none does, or several share a folder."""
    entry = image.tree.entries.get(path)
    shared = entry is not None and entry.kind == "dir" and len(known.owners.get(path, ())) > 1
    return "" if shared else known.owner(path)


def _space(
    image: ImageContents, known: Database, find: Callable[[str], FileOrigin]
) -> Iterator[report.Space]:
    unpacked, packed = Counter[tuple[int, str, bool]](), Counter[tuple[int, str, bool]]()

    def taker(index: int, path: str) -> tuple[int, str, bool]:
        owner = _owner(image, known, path)
        shared = path in known.owners and not owner
        name = owner or (SHARED if shared else f"no package: {find(path).kind}")
        return index, name, bool(owner)

    for path, entry in image.tree.entries.items():
        if entry.kind == "file" and entry.size:
            unpacked[taker(image.layer_of.get(path, 0), path)] += entry.size
    for index, costs in enumerate(image.costs):
        for path, cost in costs:
            packed[taker(index, path)] += cost
    for one in sorted(unpacked.keys() | packed.keys(), key=lambda one: (-unpacked[one], -packed[one], one)):
        index, name, package = one
        yield report.Space(image.names[index], name, unpacked[one], package, packed[one])
