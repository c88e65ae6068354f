"""Push images and an index over them to a registry; blobs that it already has are not sent."""

from __future__ import annotations

import io
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from typing import IO, Any

from dindkit.errors import DindkitError
from dindkit.formats import layer as layers
from dindkit.formats.image_archive import Archive
from dindkit.formats.image_layout import Layout
from dindkit.formats.oci import INDEX, MANIFEST, digest, document
from dindkit.progress import Progress, size
from dindkit.registry import referrers
from dindkit.registry.answer import index_entries
from dindkit.registry.client import Repository
from dindkit.registry.recompress import to_gzip
from dindkit.registry.referrers import descriptor

#: How layers may be compressed.
COMPRESSIONS = ("zstd", "gzip")

GZIP_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
SPDX = "application/spdx+json"


@dataclass(frozen=True)
class Image:
    """An open image archive, and the SPDX document of what is in it."""

    archive: Archive | Layout
    sbom: bytes


@dataclass(frozen=True)
class Pushed:
    """What a push did: the index's digest, and how many blobs were sent and how many were there already."""

    reference: str
    digest: str
    sent: int
    skipped: int


@dataclass(frozen=True)
class _Blob:
    digest: str
    size: int
    opened: Callable[[], AbstractContextManager[IO[bytes]]]


def publish(
    images: Sequence[Image],
    repository: Repository,
    progress: Progress,
    *,
    compression: str = "zstd",
    join: bool = False,
) -> Pushed:
    """Push `images`, one per architecture, and an index over them under the repository's tag.

    `compression` is `zstd` (the archive's own layers) or `gzip` (made here, always the same bytes). With
    `join`, architectures that the tag's index already names and `images` does not are kept in it.

    Raises DindkitError for two images of one architecture, before anything is sent, and for what the registry
    refuses.
    """
    platforms = [_platform(image) for image in images]
    for key, count in Counter(map(_key, platforms)).items():
        if count > 1:
            raise DindkitError(f"Two images are for {key}.", "Name each architecture once.")
    sent = skipped = 0
    entries: dict[str, dict[str, Any]] = {}
    for image, platform in zip(images, platforms, strict=True):
        with ExitStack() as spooled:
            manifest, blobs = _prepare(image.archive, compression, progress, spooled)
            missing = [blob for blob in blobs if not repository.has_blob(blob.digest)]
            sent, skipped = sent + len(missing), skipped + len(blobs) - len(missing)
            _send(repository, missing, len(blobs), progress)
        repository.put_manifest(digest(manifest), MANIFEST, manifest)
        subject = descriptor(MANIFEST, manifest)
        referrers.attach(repository, subject, image.sbom, SPDX, "sbom.spdx.json")
        entries[_key(platform)] = {**subject, "platform": platform}
    if join:
        entries = {**_present(repository), **entries}
    index = document(
        {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entries[key] for key in sorted(entries)]}
    )
    repository.put_manifest(repository.reference.tag, INDEX, index)
    return Pushed(str(repository.reference), digest(index), sent, skipped)


def _prepare(
    archive: Archive | Layout, compression: str, progress: Progress, spooled: ExitStack
) -> tuple[bytes, list[_Blob]]:
    """Return the manifest to push and its blobs; new blobs are temporary files that `spooled` closes."""
    image = archive.image
    config = document(image.config)
    described = _Blob(digest(config), len(config), lambda: io.BytesIO(config))
    if compression == "zstd":
        blobs = [_Blob(one.digest, one.size, lambda one=one: archive.blob(one)) for one in image.layers]  # type: ignore[misc]
        return document(image.manifest), [*blobs, described]
    blobs = []
    with progress.step("compress with gzip", total=sum(one.size for one in image.layers)) as step:
        for one in image.layers:
            target = spooled.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack closes it
            with archive.blob(one) as blob:
                name, length = to_gzip(layers.load(blob, one.media_type), target)
            step.advance(one.size)
            blobs.append(_Blob(name, length, lambda target=target: _rewound(target)))  # type: ignore[misc]
    packed = [{"mediaType": GZIP_LAYER, "digest": blob.digest, "size": blob.size} for blob in blobs]
    return document({**image.manifest, "layers": packed}), [*blobs, described]


def _rewound(contents: IO[bytes]) -> AbstractContextManager[IO[bytes]]:
    """Yield the file, rewound, for one attempt to upload it; do not close it."""
    contents.seek(0)
    return nullcontext(contents)


def _send(repository: Repository, missing: Sequence[_Blob], count: int, progress: Progress) -> None:
    total = sum(blob.size for blob in missing)
    with progress.step(f"push to {repository.reference.host}", total=total) as step:
        for blob in missing:
            repository.put_blob(blob.digest, blob.size, blob.opened, step.advance)
        step.detail = f"{len(missing)} of {count} blobs, {size(total)}"


def _platform(image: Image) -> dict[str, str]:
    """Return the `platform` of an index entry for the image."""
    config = image.archive.image.config
    return {key: config[key] for key in ("architecture", "os", "variant") if config.get(key)}


def _key(platform: dict[str, str]) -> str:
    return "/".join(platform[key] for key in ("os", "architecture", "variant") if key in platform)


def _present(repository: Repository) -> dict[str, dict[str, Any]]:
    """Return the entries of the index that the tag names now, by platform."""
    tag = repository.reference.tag
    entries = index_entries(repository.get_manifest(tag, INDEX), str(repository.reference))
    return {_key(entry["platform"]): entry for entry in entries if "platform" in entry}
