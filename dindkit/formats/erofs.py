"""Write a tree as an EROFS file system, uncompressed: the same bytes for the same tree, and no root needed.

Format: https://erofs.docs.kernel.org/en/latest/core_ondisk.html and fs/erofs/erofs_fs.h of Linux. The blocks
are: the superblock, all inodes, then directories, symbolic links and files. Files of one content share it.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO

from dindkit.errors import DindkitError
from dindkit.formats.entry import CAPABILITY, Entry
from dindkit.formats.tree import Tree

BLOCK_BITS = 12
BLOCK = 1 << BLOCK_BITS
MAGIC = 0xE0F5E1E2
#: Where the superblock begins, in bytes, and where the inodes do.
SUPERBLOCK, INODES = 1024, BLOCK
#: An inode's number is its offset in units of so many bytes.
SLOT = 32
#: An extended inode (bit 0) whose data lies in whole blocks of its own (the layout in bits 1 to 3 is 0).
EXTENDED_PLAIN = 1
INODE = struct.Struct("<HHHHQIIIIQII16x")
DIRENT = struct.Struct("<QHBx")
#: The beginning of an inode's extended attributes, and of each of them; the namespace `security.` is 6.
ATTRIBUTES = struct.Struct("<IB7x")
ATTRIBUTE = struct.Struct("<BBH")
SECURITY = 6
#: The longest name of a file, in bytes: NAME_MAX.
LONGEST_NAME = 255

#: Entry's kind -> the mode's bits, and the type in a directory.
KINDS = {
    "file": (stat.S_IFREG, 1),
    "dir": (stat.S_IFDIR, 2),
    "char": (stat.S_IFCHR, 3),
    "block": (stat.S_IFBLK, 4),
    "fifo": (stat.S_IFIFO, 5),
    "symlink": (stat.S_IFLNK, 7),
}


class ErofsError(DindkitError):
    """A tree cannot be written as EROFS."""


@dataclass
class _Node:
    """One inode. `names` counts the paths of a file, or those that lead to a directory."""

    entry: Entry
    number: int = 0
    names: int = 1
    #: Bytes of data, and the block where they begin.
    size: int = 0
    start: int = 0
    #: Of a directory: name -> node, `.` and `..` among them.
    children: dict[bytes, _Node] = field(default_factory=dict)

    @property
    def attributes(self) -> bytes:
        """The extended attributes behind the inode, padded to 4 bytes."""
        value = self.entry.capability
        if not value:
            return b""
        name = CAPABILITY.removeprefix("security.").encode()
        body = ATTRIBUTE.pack(len(name), SECURITY, len(value)) + name + value
        return ATTRIBUTES.pack(0, 0) + body + bytes(-len(body) % 4)


def write(tree: Tree, out: IO[bytes]) -> int:
    """Write `tree` to `out` and return how many bytes; contents are hashed as they are read.

    Raises ErofsError for a name that is too long or a hard link to nothing, DamagedError for a content that
    has changed.
    """
    nodes = _nodes(tree)
    end = _number(nodes)
    contents = _place(nodes, -(-end // BLOCK))
    blocks = contents[-1].start + -(-contents[-1].size // BLOCK) if contents else -(-end // BLOCK)
    out.write(_superblock(nodes, blocks))
    written = INODES
    for node in nodes:
        data = _inode(node)
        out.write(bytes(_offset(node) - written) + data)
        written = _offset(node) + len(data)
    out.write(bytes(-written % BLOCK))
    for node in contents:
        count = 0
        for chunk in _data(tree, node):
            out.write(chunk)
            count += len(chunk)
        out.write(bytes(-count % BLOCK))
    return blocks * BLOCK


def _nodes(tree: Tree) -> list[_Node]:
    """Return the nodes of `tree`, the root's first, with all names."""
    by_path = {path: _Node(tree.entries[path]) for path in tree.paths() if _is_inode(tree, path)}
    root = by_path[""]
    root.children = {b".": root, b"..": root}
    for path in tree.paths():
        if not path:
            continue
        entry = tree.entries[path]
        node = by_path.get(entry.link if entry.kind == "hardlink" else path)
        if node is None:
            raise ErofsError(f"{path!r} is a hard link to {entry.link!r}, which is no file.")
        folder, _, name = path.rpartition("/")
        parent, raw = by_path[folder], name.encode("utf-8", "surrogateescape")
        if len(raw) > LONGEST_NAME:
            raise ErofsError(f"The name {name!r} is longer than {LONGEST_NAME} bytes.")
        parent.children[raw] = node
        if entry.kind == "dir":
            node.children = {b".": node, b"..": parent}
            node.names += 1
            parent.names += 1
        elif entry.kind == "hardlink":
            node.names += 1
    root.names += 1
    return list(by_path.values())


def _is_inode(tree: Tree, path: str) -> bool:
    return tree.entries[path].kind != "hardlink"


def _number(nodes: Sequence[_Node]) -> int:
    """Give each node its number, and return the offset behind the last inode, in bytes."""
    at = INODES
    for node in nodes:
        node.number = at // SLOT
        length = INODE.size + len(node.attributes)
        at += length + -length % SLOT
    return at


def _offset(node: _Node) -> int:
    return node.number * SLOT


def _place(nodes: Sequence[_Node], first: int) -> list[_Node]:
    """Give the data of each node its blocks, from `first` on; return the nodes whose data is written."""
    contents: list[_Node] = []
    known: dict[str, int] = {}
    for kind in ("dir", "symlink", "file"):
        for node in nodes:
            entry = node.entry
            if entry.kind != kind:
                continue
            node.size = _size(node)
            node.start = known.get(entry.digest, first) if kind == "file" else first
            if node.size and node.start == first:
                contents.append(node)
                known[entry.digest] = first
                first += -(-node.size // BLOCK)
    return contents


def _size(node: _Node) -> int:
    if node.entry.kind == "dir":
        *full, last = _blocks(node)
        return len(full) * BLOCK + sum(DIRENT.size + len(name) for name in last)
    if node.entry.kind == "symlink":
        return len(_target(node))
    return node.entry.size


def _target(node: _Node) -> bytes:
    return node.entry.link.encode("utf-8", "surrogateescape")


def _blocks(node: _Node) -> list[list[bytes]]:
    """Return the names of a directory in order, as many in each block as it holds."""
    blocks: list[list[bytes]] = [[]]
    left = BLOCK
    for name in sorted(node.children):
        length = DIRENT.size + len(name)
        if length > left:
            blocks.append([])
            left = BLOCK
        blocks[-1].append(name)
        left -= length
    return blocks


def _data(tree: Tree, node: _Node) -> Iterable[bytes]:
    if node.entry.kind == "dir":
        return _directory(node)
    if node.entry.kind == "symlink":
        return [_target(node)]
    return tree.contents.chunks(node.entry.digest)


def _directory(node: _Node) -> Iterator[bytes]:
    blocks = _blocks(node)
    for names in blocks:
        at = DIRENT.size * len(names)
        heads = []
        for name in names:
            child = node.children[name]
            heads.append(DIRENT.pack(child.number, at, KINDS[child.entry.kind][1]))
            at += len(name)
        data = b"".join([*heads, *names])
        yield data if names is blocks[-1] else data.ljust(BLOCK, b"\0")


def _inode(node: _Node) -> bytes:
    entry = node.entry
    where = node.start
    if entry.kind in ("char", "block"):
        major, minor = entry.device
        where = minor & 0xFF | major << 8 | (minor & ~0xFF) << 12  # new_encode_dev of linux/kdev_t.h
    attributes = node.attributes
    # The header counts as one, each further 4 bytes as one more.
    count = 1 + (len(attributes) - ATTRIBUTES.size) // 4 if attributes else 0
    mode = KINDS[entry.kind][0] | entry.mode
    head = (EXTENDED_PLAIN, count, mode, 0, node.size, where, node.number & 0xFFFFFFFF)
    mtime = entry.mtime & 0xFFFFFFFFFFFFFFFF
    return INODE.pack(*head, entry.uid, entry.gid, mtime, 0, node.names) + attributes


def _superblock(nodes: Sequence[_Node], blocks: int) -> bytes:
    """Return the first block. No feature is asked for, so every kernel since Linux 5.4 reads it."""
    times = (0, 0)
    head = struct.pack(
        *("<IIIBBHQQIIII", MAGIC, 0, 0, BLOCK_BITS, 0, nodes[0].number, len(nodes)),
        *(*times, blocks, 0, 0),
    )
    return (bytes(SUPERBLOCK) + head).ljust(BLOCK, b"\0")
