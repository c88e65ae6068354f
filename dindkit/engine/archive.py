"""Read an image archive the way `docker load` does, and stream it with some of its layers left out."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dindkit.errors import EngineError

#: Bytes read at a time.
CHUNK = 1 << 20


@dataclass(frozen=True)
class Archive:
    """What an image archive says of its one image (Docker's manifest.json, and the config that it names)."""

    path: Path
    #: Image ids an engine may give it: the config's digest, or with containerd's image store the manifest's.
    ids: frozenset[str]
    tags: tuple[str, ...]
    #: The OCI image configuration.
    config: dict[str, Any]
    #: Path in the archive and diff_id of each layer, lowest first.
    layers: tuple[tuple[str, str], ...]


def read(path: Path) -> Archive:
    """Read what the archive at `path` holds; raises EngineError where it is no image archive."""
    try:
        with tarfile.open(path) as tar:
            manifest = json.loads(_member(tar, "manifest.json"))[0]
            raw_config = _member(tar, manifest["Config"])
            index = json.loads(_member(tar, "index.json")) if "index.json" in tar.getnames() else {}
    except (tarfile.TarError, KeyError, ValueError, IndexError) as error:
        raise EngineError(f"{path} is no image archive: {error}.", "Build it again: invoke build") from error
    config = json.loads(raw_config)
    digest = "sha256:" + Path(manifest["Config"]).name.removesuffix(".json")
    return Archive(
        path=path,
        ids=frozenset({digest, *(entry["digest"] for entry in index.get("manifests", []))}),
        tags=tuple(manifest.get("RepoTags") or ()),
        config=config,
        layers=tuple(zip(manifest["Layers"], config["rootfs"]["diff_ids"], strict=True)),
    )


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    if file is None:
        raise KeyError(f"{name} is not a file")
    return file.read()


def stream(path: Path, left_out: Collection[str] = ()) -> Iterator[bytes]:
    """Yield the archive at `path` in chunks of at most CHUNK bytes, without the members `left_out`."""
    with tarfile.open(path) as tar, path.open("rb") as raw:
        for member in tar:
            if member.name in left_out:
                continue
            yield member.tobuf(tarfile.PAX_FORMAT)
            raw.seek(member.offset_data)
            yield from _exactly(raw, member.size + -member.size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _exactly(raw: io.BufferedReader, count: int) -> Iterator[bytes]:
    while count:
        chunk = raw.read(min(CHUNK, count))
        if not chunk:
            raise EngineError("The image archive ends too early.", "Build it again: invoke build")
        count -= len(chunk)
        yield chunk
