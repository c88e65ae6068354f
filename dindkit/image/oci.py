"""An image's documents, and the one tar of them that both `docker load` and OCI tools read.

OCI image-spec: image-layout.md, manifest.md, config.md; Docker's manifest.json stands beside index.json, for
engines that know no pure OCI layout (https://github.com/moby/moby/issues/44162).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from dindkit.image.layer import Layer
from dindkit.image.recipe import Config
from dindkit.image.tarball import Writer
from dindkit.image.tree import CHUNK, Entry

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"

#: CPU variants that registries and engines tell apart (OCI image-spec, config.md).
VARIANTS = {"arm64": "v8"}
SECOND = 1_000_000_000  # Docker counts a health check's times in nanoseconds


@dataclass(frozen=True)
class Part:
    """A layer, and what it holds, in words for the history."""

    layer: Layer
    created_by: str


@dataclass(frozen=True)
class Image:
    """An image as its two documents and its layers, lowest first."""

    config: Mapping[str, Any]
    manifest: Mapping[str, Any]
    layers: tuple[Layer, ...]
    tags: tuple[str, ...] = field(default=())

    @property
    def image_id(self) -> str:
        """The digest of the configuration, which Docker calls the image's id."""
        return digest(document(self.config))


def document(value: Any) -> bytes:
    """Render JSON so that equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest(data: bytes) -> str:
    """Return `sha256:…` of `data`."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def timestamp(epoch: int) -> str:
    """Render seconds since 1970 as RFC 3339."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _container(config: Config, labels: Mapping[str, str]) -> dict[str, Any]:
    """Return the `config` member of an image configuration."""
    found: dict[str, Any] = {
        "Env": [f"{name}={value}" for name, value in sorted(config.env.items())],
        "Labels": dict(labels) | dict(config.labels),
    }
    if config.entrypoint:
        found["Entrypoint"] = list(config.entrypoint)
    found["Cmd"] = list(config.cmd)
    if config.volumes:
        found["Volumes"] = {path: {} for path in config.volumes}
    if config.ports:
        found["ExposedPorts"] = {port: {} for port in config.ports}
    if config.user:
        found["User"] = config.user
    if config.workdir:
        found["WorkingDir"] = config.workdir
    if config.healthcheck:
        health = config.healthcheck
        found["Healthcheck"] = {
            "Test": list(health.test),
            "Interval": health.interval * SECOND,
            "Timeout": health.timeout * SECOND,
            "StartPeriod": health.start_period * SECOND,
            "StartInterval": health.start_interval * SECOND,
            "Retries": health.retries,
        }
    return found


def describe(
    parts: Sequence[Part], config: Config, labels: Mapping[str, str], epoch: int, architecture: str, tag: str
) -> Image:
    """Return the image that consists of `parts`, lowest first; `labels` become annotations as well."""
    created = timestamp(epoch)
    platform = {"architecture": architecture, "os": "linux"}
    if architecture in VARIANTS:
        platform["variant"] = VARIANTS[architecture]
    configuration = {
        **platform,
        "created": created,
        "config": _container(config, labels),
        "rootfs": {"type": "layers", "diff_ids": [part.layer.diff_id for part in parts]},
        "history": [{"created": created, "created_by": part.created_by} for part in parts],
    }
    text = document(configuration)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": digest(text), "size": len(text)},
        "layers": [
            {"mediaType": part.layer.media_type, "digest": part.layer.digest, "size": part.layer.size}
            for part in parts
        ],
        "annotations": dict(labels),
    }
    return Image(configuration, manifest, tuple(part.layer for part in parts), (tag,))


def _index(image: Image, manifest: bytes) -> dict[str, Any]:
    platform = {key: image.config[key] for key in ("architecture", "os", "variant") if key in image.config}
    described = {
        "mediaType": MANIFEST,
        "digest": digest(manifest),
        "size": len(manifest),
        "platform": platform,
    }
    tagged = [
        {
            **described,
            "annotations": {
                "io.containerd.image.name": f"docker.io/{tag}",
                "org.opencontainers.image.ref.name": tag.rpartition(":")[2],
            },
        }
        for tag in image.tags
    ]
    return {"schemaVersion": 2, "mediaType": INDEX, "manifests": tagged or [described]}


def blob_path(name: str) -> str:
    """Return the path of the blob with the digest `name` in an OCI image layout."""
    return f"blobs/{name.replace(':', '/')}"


def write(image: Image, blobs: Mapping[str, Path], out: IO[bytes]) -> None:
    """Write the archive of `image`; `blobs` has the file of each layer by digest."""
    config, manifest = document(image.config), document(image.manifest)
    docker = [
        {
            "Config": blob_path(digest(config)),
            "RepoTags": list(image.tags) or None,
            "Layers": [blob_path(layer.digest) for layer in image.layers],
        }
    ]
    texts = {
        "oci-layout": document({"imageLayoutVersion": "1.0.0"}),
        "index.json": document(_index(image, manifest)),
        "manifest.json": document(docker),
        blob_path(digest(config)): config,
        blob_path(digest(manifest)): manifest,
    }
    writer = Writer(out)
    for folder in ("blobs", "blobs/sha256"):
        writer.add(Entry(folder, "dir", 0o755))
    for name, text in texts.items():
        writer.add(Entry(name, "file", 0o644, size=len(text)), [text])
    for name in dict.fromkeys(layer.digest for layer in image.layers):
        with blobs[name].open("rb") as blob:
            size = blobs[name].stat().st_size
            writer.add(Entry(blob_path(name), "file", 0o644, size=size), iter(lambda: blob.read(CHUNK), b""))
    writer.close()
