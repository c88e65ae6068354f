"""Attach files to an image in a registry: OCI referrers, or the fallback for registries without this API.

Specification: OCI image-spec 1.1 "Manifest" (`subject`, `artifactType`, the empty config), and
distribution-spec 1.1 "Referrers tag schema".
"""

from __future__ import annotations

import io
from typing import Any

from dindkit.formats.oci import INDEX, MANIFEST, digest, document
from dindkit.registry.answer import index_entries, load
from dindkit.registry.client import Repository

_EMPTY = b"{}"
_EMPTY_TYPE = "application/vnd.oci.empty.v1+json"


def attach(repository: Repository, subject: dict[str, Any], body: bytes, media_type: str, title: str) -> str:
    """Attach `body` as a file called `title` to the manifest with the descriptor `subject`.

    Returns the digest of the new manifest. Attaching the same file again changes nothing.
    """
    for blob in (_EMPTY, body):
        if not repository.has_blob(digest(blob)):
            repository.put_blob(digest(blob), len(blob), lambda blob=blob: io.BytesIO(blob))  # type: ignore[misc]
    layer = {**descriptor(media_type, body), "annotations": {"org.opencontainers.image.title": title}}
    manifest = document(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": media_type,
            "config": descriptor(_EMPTY_TYPE, _EMPTY),
            "layers": [layer],
            "subject": {key: subject[key] for key in ("mediaType", "digest", "size")},
        }
    )
    answer = repository.put_manifest(digest(manifest), MANIFEST, manifest)
    if "OCI-Subject" not in answer.headers:
        _list_under_tag(repository, subject, {**descriptor(MANIFEST, manifest), "artifactType": media_type})
    return digest(manifest)


def _list_under_tag(repository: Repository, subject: dict[str, Any], entry: dict[str, Any]) -> None:
    """Add to the list of referrers under a tag, as clients must where the registry keeps none."""
    tag = str(subject["digest"]).replace(":", "-")
    stored = repository.get_manifest(tag, INDEX)
    entries = index_entries(stored, f"The list of referrers under {repository.reference.host}'s tag {tag}")
    if all(known["digest"] != entry["digest"] for known in entries):
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [*entries, entry]}
        repository.put_manifest(tag, INDEX, document({**(load(stored) if stored else {}), **index}))


def descriptor(media_type: str, body: bytes) -> dict[str, Any]:
    """Return the OCI descriptor of `body`."""
    return {"mediaType": media_type, "digest": digest(body), "size": len(body)}
