"""A root file system as data: one entry per path, contents in a ContentStore."""

from __future__ import annotations

import tarfile
from collections.abc import Container, Iterable, Iterator
from dataclasses import replace
from typing import IO

from dindkit.errors import DindkitError
from dindkit.formats.bounded_tar import bounded, reading
from dindkit.formats.contents import ContentStore
from dindkit.formats.entry import Entry, by_bytes
from dindkit.formats.forward import Content, Stream
from dindkit.formats.tar_members import clean, described
from dindkit.formats.tar_writer import Writer

#: Characters of all paths of a tree together: all are held in memory. A large image has some 10 million.
MAX_PATHS = 1 << 27
#: Bytes of a text file that is read: dpkg's database, accounts. Debian's largest such file has some 10 MB.
MAX_TEXT = 1 << 25
#: How often a name of a file may become another's, where a file with many names loses them one by one.
MAX_RENAMED = 1 << 19


class TreeError(DindkitError):
    """A path cannot be in a tree."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"The path {path!r} is refused: {problem}.", "Nothing was written there.")


def read_tar(stream: Stream, contents: ContentStore) -> Iterator[Entry]:
    """Yield the entries of a tar stream, keeping contents in `contents`. Raises tarfile.TarError."""
    with reading(stream) as members:
        yield from entries(members, contents)


def entries(members: tarfile.TarFile, contents: ContentStore) -> Iterator[Entry]:
    """Yield the entries of an open tar archive, keeping contents in `contents`. Raises tarfile.TarError."""
    for member in bounded(members):
        entry = described(member)
        path = clean(entry.path)
        link = clean(entry.link) if entry.kind == "hardlink" else entry.link
        if entry.kind == "file":
            digest, size = contents.add(Content(members, member), size=member.size)
            yield replace(entry, path=path, digest=digest, size=size)
        else:
            yield replace(entry, path=path, link=link)


def plain(path: str) -> bool:
    """Tell whether a path is empty (the root) or a relative one without empty parts, `.` and `..`."""
    parts = path.split("/")
    return path == "" or not ("\0" in path or "" in parts or "." in parts or ".." in parts)


def _too_long(path: str) -> TreeError:
    return TreeError(f"{path[:80]}…", f"with it, the tree's paths have more than {MAX_PATHS} characters")


class Tree:
    """A root file system: `entries` by path. Every path's parent is there, and is a directory.

    `add`, `put`, `edit` and the constructor see to that, whatever their callers have checked: code that
    extracts a tree may rely on it. They raise TreeError.

    Names of one file stay so when another of its names is removed or gets other content, as on a disk.
    """

    def __init__(self, contents: ContentStore, content: Iterable[Entry] = ()) -> None:
        self.contents = contents
        self.entries: dict[str, Entry] = {"": Entry("", "dir", 0o755)}
        #: What is in each folder, by the folder's path.
        self._children: dict[str, dict[str, None]] = {}
        #: The paths of hard links by that of their file; some of them may be links no more.
        self._links: dict[str, dict[str, None]] = {}
        self._left, self._renamed = MAX_PATHS, 0
        for entry in content:
            self.add(entry)

    def add(self, entry: Entry) -> None:
        """Put `entry` at its path, making missing parents (0:0, mode 0755)."""
        path = entry.path
        if not plain(path) or (entry.kind == "hardlink" and not (entry.link and plain(entry.link))):
            raise TreeError(
                path, "it, or the file that it is a hard link to, is not a plain path below the root"
            )
        if path:
            self._make_parents(entry)
        if entry.kind != "dir" and not self._replaceable(path):
            raise TreeError(
                path, f"a {entry.kind} cannot take the place of a folder that has something in it"
            )
        if entry.kind == "hardlink":
            entry = self._resolved(entry)
        self._part(path)
        self._set(entry)
        if entry.kind == "hardlink":
            self._links.setdefault(entry.link, {})[path] = None

    def _make_parents(self, entry: Entry) -> None:
        missing, parent, left = [], entry.path, self._left
        while parent := parent.rpartition("/")[0]:
            if parent in self.entries:
                break
            missing.append(parent)
            left -= len(parent)
            if left < 0:
                raise _too_long(entry.path)
        found = self.entries.setdefault(parent, Entry("", "dir", 0o755))
        if found.kind != "dir":
            raise TreeError(entry.path, f"{parent!r} is a {found.kind}, where it needs a folder")
        for path in reversed(missing):
            self._set(Entry(path, "dir", 0o755, mtime=entry.mtime))

    def _set(self, entry: Entry) -> None:
        path = entry.path
        if path not in self.entries:
            self._left -= len(path)
            if self._left < 0:
                raise _too_long(path)
            self._children.setdefault(path.rpartition("/")[0], {})[path] = None
        self.entries[path] = entry

    def _delete(self, path: str) -> None:
        if self.entries.pop(path, None) and path:
            self._left += len(path)
            del self._children[path.rpartition("/")[0]][path]

    def _resolved(self, entry: Entry) -> Entry:
        """Return a hard link as one to the file itself, and not to another link of it."""
        found = self.entries.get(entry.link)
        file = found.link if found is not None and found.kind == "hardlink" else entry.link
        if entry.path in (file, entry.link):
            raise TreeError(entry.path, f"it is a hard link to {entry.link!r}, which is the same file")
        return replace(entry, link=file) if file != entry.link else entry

    def names(self, path: str) -> list[str]:
        """Return all names of the file at `path`, that one first: link(2)."""
        linked = (self.entries.get(name) for name in self._links.get(path, ()))
        return [path, *(one.path for one in linked if one and (one.kind, one.link) == ("hardlink", path))]

    def _part(self, path: str) -> None:
        """Before the file at `path` is removed or replaced, let the next of its names be the file."""
        if path not in self._links:
            return
        self._renamed += len(self._links[path])
        if self._renamed > MAX_RENAMED:
            raise TreeError(path, "files with many names lose them one by one, and too often")
        _, *others = self.names(path)
        del self._links[path]
        file = self.entries.get(path)
        if others and file is not None:
            self._name(file, others)

    def _name(self, file: Entry, names: list[str]) -> None:
        """Let the first of `names` be `file`, and the others its links."""
        first, *others = names
        self.entries[first] = replace(file, path=first)
        if others:
            self._links[first] = dict.fromkeys(others)
        for name in others:
            self.entries[name] = replace(
                file, path=name, kind="hardlink", link=first, size=0, digest="", capability=b"", device=(0, 0)
            )

    def hard_links(self) -> dict[str, list[str]]:
        """Return, for each file with hard links, all its names; the first is the file."""
        found = {path: self.names(path) for path in self._links}
        return {path: names for path, names in found.items() if len(names) > 1}

    def sort_names(self) -> None:
        """Of a file with hard links, let the first name by bytes be the file, and the others its links."""
        for path, names in self.hard_links().items():
            file = self.entries.get(path)
            if file is not None:
                del self._links[path]
                self._name(file, sorted(names, key=by_bytes))

    def _replaceable(self, path: str) -> bool:
        old = self.entries.get(path)
        return path != "" and (old is None or old.kind != "dir" or not self._children.get(path))

    def put(self, path: str, content: str | bytes, mode: int = 0o644, mtime: int = 0) -> None:
        """Put a file that root owns at `path`."""
        digest, size = self.contents.put(content.encode() if isinstance(content, str) else content)
        self.add(Entry(path, "file", mode, mtime=mtime, size=size, digest=digest))

    def text(self, path: str) -> str:
        """Return a file's content as text, or the empty string where there is no such file.

        Raises TreeError where it has more than MAX_TEXT bytes.
        """
        entry = self.entries.get(path)
        if entry is None or entry.kind != "file":
            return ""
        if entry.size > MAX_TEXT:
            raise TreeError(path, f"it has {entry.size} bytes, where a text is to be read")
        return self.contents.read(entry.digest).decode("utf-8", "surrogateescape")

    def edit(self, path: str, content: str) -> None:
        """Replace the content of the file at `path`; owner, mode and time stay."""
        old = self.entries.get(path)
        if old is None or old.kind != "file":
            raise TreeError(
                path, f"it is {f'a {old.kind}' if old else 'missing'}, where a file is to be edited"
            )
        digest, size = self.contents.put(content.encode("utf-8", "surrogateescape"))
        self.entries[path] = replace(old, digest=digest, size=size)

    def remove(self, path: str) -> None:
        """Remove `path` and all below it, where it is there."""
        self._remove([*self.below(path), path])

    def empty(self, path: str, but: Container[str] = ()) -> None:
        """Remove all below `path`, but for the paths in `but`, which has their parents as well."""
        self._remove([name for name in self.below(path) if name not in but])

    def _remove(self, paths: list[str]) -> None:
        for path in paths:
            entry = self.entries.get(path)
            if entry is not None and entry.kind == "hardlink":
                self._delete(path)
        for path in paths:
            self._part(path)
            self._delete(path)

    def below(self, path: str) -> list[str]:
        """Return every path below `path`, sorted."""
        found = list(self._children.get(path, ()))
        for one in found:  # it grows meanwhile
            found += self._children.get(one, ())
        return sorted(found, key=by_bytes)

    def paths(self) -> list[str]:
        """Return all paths, sorted by bytes."""
        return sorted(self.entries, key=by_bytes)

    def write(self, out: IO[bytes]) -> None:
        """Write the whole tree as a tar stream, in the order of `in_order`."""
        write(out, self.in_order(), self.contents)

    def in_order(self) -> Iterator[Entry]:
        """Yield all entries, sorted by the bytes of their paths; a file comes before its hard links."""
        self.sort_names()
        for path in self.paths():
            yield self.entries[path]


def write(out: IO[bytes], content: Iterable[Entry], contents: ContentStore) -> None:
    """Write `content` as a tar stream."""
    writer = Writer(out)
    for entry in content:
        writer.add(entry, contents.chunks(entry.digest) if entry.kind == "file" else ())
    writer.close()
