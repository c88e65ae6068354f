"""Image archives made on the spot, whole ones and files of one by name."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from dindkit.formats import layer, oci
from dindkit.formats.contents import ContentStore
from dindkit.formats.image_archive import ArchiveError, open_archive
from dindkit.formats.tree import Tree
from dindkit.image import image_config
from dindkit.image.recipe import Config
from tests.support.layers import store

Members = dict[str, bytes]


def write_image(folder: Path, contents: ContentStore, *trees: Tree) -> Path:
    """Write an image whose layers turn each of `trees` into the next; return its archive's path."""
    folder.mkdir(parents=True, exist_ok=True)
    parts, blobs, below = [], {}, None
    for index, tree in enumerate(trees):
        with (folder / f"blob{index}").open("wb") as out:
            stored = store(layer.difference(tree, below), contents, out)
        blobs[stored.digest] = folder / f"blob{index}"
        parts.append(image_config.Part(stored, "made by a test"))
        below = tree
    image = image_config.describe(parts, Config(cmd=("sh",)), {}, 1_700_000_000, "amd64", "dindkit/x:trixie")
    with (folder / "image.tar").open("wb") as out:
        oci.write(image, blobs, out)
    return folder / "image.tar"


def members(path: Path) -> Members:
    """Return the files in an archive by name."""
    found = {}
    with tarfile.open(path) as archive:
        for member in archive:
            file = archive.extractfile(member)
            if file is not None:
                found[member.name] = file.read()
    return found


def pack(path: Path, *files: Mapping[str, bytes], links: Mapping[str, str] | None = None) -> Path:
    """Write a tar of `files`, in their order, and of symbolic `links`."""
    with tarfile.open(path, "w") as out:
        for name, content in (item for some in files for item in some.items()):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            out.addfile(member, io.BytesIO(content))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            out.addfile(member)
    return path


def name_of(content: bytes) -> str:
    return f"blobs/{oci.digest(content).replace(':', '/')}"


def index_of(manifests: Iterable[bytes], **more: Any) -> bytes:
    """Return an index of manifests, or of indexes."""
    entries = [
        {
            "mediaType": oci.INDEX if b'"manifests":' in one else oci.MANIFEST,
            "digest": oci.digest(one),
            "size": len(one),
            **more,
        }
        for one in manifests
    ]
    return oci.document({"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": entries})


def manifest_of(files: Members) -> bytes:
    (entry,) = json.loads(files["index.json"])["manifests"]
    return files[f"blobs/{entry['digest'].replace(':', '/')}"]


def refusal(path: Path) -> str:
    with pytest.raises(ArchiveError) as caught, open_archive(path):
        pass
    assert "\n" not in str(caught.value)
    return str(caught.value)
