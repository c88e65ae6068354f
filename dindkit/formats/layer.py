"""Layers: the difference of a tree to its parent (OCI image-spec, layer.md), and how to apply one."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from dindkit.formats import folder as folders
from dindkit.formats.contents import EMPTY
from dindkit.formats.entry import Entry, by_bytes
from dindkit.formats.forward import Chunked, Stream
from dindkit.formats.tree import Tree, TreeError, plain

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"


def _same(one: Entry | None, other: Entry | None) -> bool:
    """Tell whether two entries are equal but for their times, which alone put no path into a layer."""
    return one is not None and other is not None and replace(one, mtime=0) == replace(other, mtime=0)


def difference(tree: Tree, parent: Tree | None) -> list[Entry]:
    """Return the entries of the layer that turns `parent` into `tree`, in order, with whiteouts.

    All names of a hard-linked file are in the layer or none: a link into a layer below cannot be made when
    layers are unpacked each for itself.
    """
    if parent is None:
        return [tree.entries[path] for path in tree.paths() if path]
    changed = {path for path, entry in tree.entries.items() if not _same(entry, parent.entries.get(path))}
    for names in tree.hard_links().values():
        if not changed.isdisjoint(names):
            changed.update(names)
    changed.discard("")
    out: dict[str, Entry] = {path: tree.entries[path] for path in changed}
    for path in parent.entries.keys() - tree.entries.keys():
        folder, _, name = path.rpartition("/")
        if folder in tree.entries and tree.entries[folder].kind == "dir":
            mark = f"{folder}/{WHITEOUT}{name}".lstrip("/")
            out[mark] = Entry(mark, "file", 0o644, mtime=tree.entries[folder].mtime, digest=EMPTY)
    for path in list(out):
        while path := path.rpartition("/")[0]:
            out.setdefault(
                path, tree.entries[path]
            )  # engines would otherwise make up the folder's owner and mode
    return [out[path] for path in sorted(out, key=by_bytes)]


def _check_whiteout(tree: Tree, path: str, folder: str, name: str) -> None:
    """Refuse a whiteout that engines would follow out of its folder."""
    parent = tree.entries.get(folder)
    if parent is not None and parent.kind != "dir":
        raise TreeError(path, f"{folder!r} is a {parent.kind}, where it needs a folder")
    if not plain(f"{folder}/{name.removeprefix(WHITEOUT)}".lstrip("/")) or name == WHITEOUT:
        raise TreeError(path, "it is not a plain path below the root")


def apply(tree: Tree, layer: Iterable[Entry]) -> None:
    """Change `tree` as `layer` says, and as engines do. Raises TreeError.

    Refused are paths that lead through a link or out of the tree, and hard links to what is no file.
    """
    linked: dict[str, None] = {}
    put: set[str] = set()
    for entry in layer:
        folder, _, name = entry.path.rpartition("/")
        if name.startswith(WHITEOUT):
            _check_whiteout(tree, entry.path, folder, name)
        if name == OPAQUE:
            tree.empty(folder, but=put)
        elif name.startswith(WHITEOUT):
            tree.remove(f"{folder}/{name.removeprefix(WHITEOUT)}".lstrip("/"))
        else:
            _remove_folder(tree, entry)
            if entry.kind == "hardlink":
                linked[_add_link(tree, entry)] = None
            else:
                tree.add(entry)
            _note(put, entry.path)
    for path in linked:
        for name in tree.names(path)[1:]:
            _describe_as(tree, name, tree.entries[path])


def _note(put: set[str], path: str) -> None:
    """Put `path` and its parents into a set: an opaque folder hides what is below the layer, not in it."""
    while path and path not in put:
        put.add(path)
        path = path.rpartition("/")[0]


def _remove_folder(tree: Tree, entry: Entry) -> None:
    old = tree.entries.get(entry.path)
    if entry.path and old is not None and old.kind == "dir" and entry.kind != "dir":
        tree.remove(entry.path)


def _add_link(tree: Tree, entry: Entry) -> str:
    """Add a hard link, and return its file's path. Its owner and mode are the file's: engines set them."""
    found = tree.entries.get(entry.link)
    if found is None or found.kind == "dir":
        raise TreeError(entry.path, f"it is a hard link to {entry.link!r}, which is no file")
    tree.add(entry)
    file = tree.entries[entry.path].link
    _describe_as(tree, file, entry)
    return file


def _describe_as(tree: Tree, path: str, other: Entry) -> None:
    """Give the entry at `path` mode and owner of another."""
    one = tree.entries[path]
    if (one.mode, one.uid, one.gid) != (other.mode, other.uid, other.gid):
        tree.entries[path] = replace(one, mode=other.mode, uid=other.uid, gid=other.gid)


#: The media types of a layer that is a plain tar, and of a compressed one.
PLAIN = "application/vnd.oci.image.layer.v1.tar"
ZSTD = f"{PLAIN}+zstd"


@dataclass(frozen=True)
class Layer:
    """A layer on disk, compressed or not."""

    #: Digest of its bytes as they are stored, `sha256:…`.
    digest: str
    #: Digest of the uncompressed tar, `sha256:…`.
    diff_id: str
    #: Number of its bytes as they are stored.
    size: int
    media_type: str = ZSTD


class HashingWriter:
    """Writes to another file, if any, and computes the SHA-256 and the number of the bytes."""

    def __init__(self, out: Any = None) -> None:
        self._out, self._hash, self.size = out, hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        """Write `data` whole."""
        self._hash.update(data)
        self.size += len(data)
        if self._out is not None:
            self._out.write(data)
        return len(data)

    @property
    def digest(self) -> str:
        """The digest of what was written so far, `sha256:…`."""
        return f"sha256:{self._hash.hexdigest()}"


class HashingReader:
    """Reads from a stream, and computes the SHA-256 of what was read."""

    def __init__(self, stream: Stream) -> None:
        self._stream, self._hash = stream, hashlib.sha256()

    def read(self, size: int) -> bytes:
        """Return the next bytes of the stream, at most `size`."""
        data = self._stream.read(size)
        self._hash.update(data)
        return data

    @property
    def digest(self) -> str:
        """The digest of what was read so far, `sha256:…`."""
        return f"sha256:{self._hash.hexdigest()}"


#: zstd's level. For dind 9 is half the work and 3 % larger, 15 four times the work and 2 % smaller.
LEVEL = 12
#: The levels that can be chosen. Above 19, decoders need more memory than they use by default.
LEVELS = range(1, 20)
#: A window of 128 MB finds what programs have in common; decoders accept no larger one by default.
WINDOW_LOG = 27
#: zstd's bytes differ between none and some worker threads, but not with their number.
THREADS = 2


def compress(tar: Iterable[bytes], size: int, out: IO[bytes], level: int = LEVEL) -> Layer:
    """Write the chunks of a layer's tar to `out` with zstd, at one of LEVELS.

    `size` is that of the whole tar in bytes: with it zstd makes its tables as large as they need to be. The
    bytes are the same on any number of cores. Raises zstandard.ZstdError where the chunks are not that size.
    """
    import zstandard

    parameters = zstandard.ZstdCompressionParameters.from_level(
        level, window_log=WINDOW_LOG, enable_ldm=True, threads=THREADS, write_checksum=True
    )
    packed: Any = HashingWriter(out)
    compressor = zstandard.ZstdCompressor(compression_params=parameters)
    writer: Any = compressor.stream_writer(packed, size=size, closefd=False)
    plain: Any = HashingWriter(writer)
    for chunk in tar:
        plain.write(chunk)
    writer.close()  # not after an exception, which its own would replace, as the size is not reached then
    return Layer(packed.digest, plain.digest, packed.size)


def bad_bytes() -> tuple[type[Exception], ...]:
    """Return the exceptions that decoders and the tar reader raise for damaged or hostile bytes."""
    import zstandard

    # Besides its own errors the tar reader raises the last of these for some malformed headers.
    others = (ArithmeticError, LookupError, RecursionError, ValueError)
    return (EOFError, zstandard.ZstdError, tarfile.TarError, *others)


#: The compressions of layers, by how their media types end. Only `docker save` has the last two.
SUFFIXES = {"zstd": ".zst", "gzip": ".gz", "bzip2": ".bz2", "xz": ".xz"}


def load(blob: Stream, media_type: str) -> Stream:
    """Return the tar stream in a layer blob, compressed as `media_type` says. Reading raises `bad_bytes`.

    All streams are read, as engines do, and not the first alone.
    """
    suffix = next((found for end, found in SUFFIXES.items() if media_type.endswith(end)), "")
    if not suffix:
        return blob
    from dindkit.formats.decompression import streams

    return Chunked(streams(blob, suffix, padded=suffix != ".zst"))


class ShapeError(ValueError):
    """A document has another shape than it should."""


def reason(error: Exception) -> str:
    """Return in words why bytes are bad: what `bad_bytes` and documents of another shape raise."""
    if isinstance(error, (EOFError, ShapeError, tarfile.TarError)):
        return str(error)
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if type(error).__name__ in ("DamagedStreamError", "ZstdError"):  # their modules need not be here
        return f"it cannot be decompressed ({error})"
    if type(error).__name__ == "JSONDecodeError":
        return f"its JSON is damaged ({error})"
    return "its documents are not what they should be"


def extract_tree(tree: Tree, folder: Path) -> None:
    """Write `tree` into the empty `folder` on disk; owners need root.

    Raises OSError, and DamagedError where the content of a file has changed.
    """
    chunks = tree.contents.chunks
    folders.lay_out(
        ((one, chunks(one.digest) if one.kind == "file" else ()) for one in tree.in_order()), str(folder)
    )
