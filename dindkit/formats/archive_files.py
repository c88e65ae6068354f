"""The files of an image archive, found as engines find them, and held to the digests in their names."""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from dindkit.errors import ArchiveError
from dindkit.formats.bounded_tar import bounded
from dindkit.formats.layer import ShapeError
from dindkit.formats.oci import blob_path, digest

#: Bytes of a manifest, an index or a configuration. Registries take no manifest of more than 4 MB.
MAX_DOCUMENT = 16_000_000


def _unpacked_path(name: str) -> str:
    """Return where an engine that unpacks an archive into an empty folder finds the member `name`."""
    return posixpath.normpath(f"/{name}").lstrip("/")


class ArchiveFiles:
    """The members of a tar, as an engine would unpack them."""

    def __init__(self, tar: tarfile.TarFile, path: Path) -> None:
        """List the members of the archive at `path`. Raises ArchiveError, and what the tar reader raises."""
        self._archive, self.path = tar, path
        self._members = self._listed()

    def __contains__(self, path: str) -> bool:
        """Tell whether the archive has something at `path`."""
        return path in self._members

    def size(self, path: str) -> int:
        """Return the size of the file at `path` in bytes, or -1 where there is none."""
        return self._members[path].size if path in self else -1

    def _listed(self) -> dict[str, tarfile.TarInfo]:
        """Return the members by path; refuse two of one path, and paths below a link."""
        members: dict[str, tarfile.TarInfo] = {}
        for member in bounded(self._archive):
            path = _unpacked_path(member.name)
            if members.setdefault(path, member) is not member and not member.isdir():
                raise ArchiveError(f"{self.path} holds {path!r} twice.")
        for path in members:
            while path := posixpath.dirname(path):
                if path in members and not members[path].isdir():
                    raise ArchiveError(f"{self.path} holds files below {path!r}, which is no folder.")
        return members

    def open(self, path: str) -> IO[bytes]:
        """Open the file at `path`. Raises ArchiveError where there is none."""
        member = self._members.get(path)
        file = self._archive.extractfile(member) if member is not None and member.isreg() else None
        if file is None:
            raise ArchiveError(f"{self.path} lacks {path!r}.")
        return file

    def read(self, path: str) -> bytes:
        """Return a JSON document. Raises ArchiveError where its path names another digest."""
        with self.open(path) as file:
            text = file.read(MAX_DOCUMENT + 1)
        if len(text) > MAX_DOCUMENT:
            raise ArchiveError(f"{self.path} holds {path!r} with more than {MAX_DOCUMENT} bytes.")
        self.hold(path, digest(text))
        return text

    def hold(self, path: str, found: str) -> None:
        """Raise ArchiveError where `path` is a blob's, and names another digest than `found`."""
        if path.startswith("blobs/") and path != blob_path(found):
            raise ArchiveError(f"{self.path} is damaged or forged: {path!r} has the digest {found}.")

    def hold_size(self, path: str, descriptor: Mapping[str, Any]) -> None:
        """Refuse a descriptor that names another size than its blob has: engines do (descriptor.md)."""
        member = self._members.get(path)
        if not isinstance(descriptor.get("size", 0), int):
            raise ShapeError(f"the size of {path!r} is no number")
        if member is not None and descriptor.get("size", member.size) != member.size:
            raise ArchiveError(
                f"{self.path} is damaged or forged: {path!r} has {member.size} bytes, and is described with "
                f"{str(descriptor['size'])[:40]}."
            )

    def target(self, name: str) -> str:
        """Return the path of `name`, or its target: Docker before 25 saves equal layers as links."""
        path = _unpacked_path(name)
        member = self._members.get(path)
        if member is None or not member.issym():
            return path
        return _unpacked_path(posixpath.join(posixpath.dirname(path), member.linkname))
