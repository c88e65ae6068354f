"""The first root file system of a machine, in its memory: what it needs to mount the image as its root."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from dindkit.errors import DindkitError
from dindkit.formats import cpio
from dindkit.formats.entry import Entry, by_bytes
from dindkit.formats.tree import Tree

#: The image's own program that mounts and loads modules, and the libraries that it is linked with.
BUSYBOX = "usr/bin/busybox"
LIBRARIES = ("ld-linux-aarch64.so.1", "ld-linux-x86-64.so.2", "libc.so.6", "libresolv.so.2")
#: Links at the top of a merged /usr: usrmerge(5).
TOPS = ("bin", "lib", "lib64", "sbin")
#: Scripts beside this module: what the kernel starts, and what starts the image's entrypoint.
INIT, MACHINE = "init.sh", "machine.sh"


class NoBusyboxError(DindkitError):
    """An image cannot begin a machine."""


def write(out: IO[bytes], tree: Tree, modules: Mapping[str, bytes], command: str) -> None:
    """Write the archive for the kernel, of files of `tree`, kernel modules in order, and two scripts.

    `command` is shell words that start the image. Raises NoBusyboxError.
    """
    if BUSYBOX not in tree.entries:
        raise NoBusyboxError(
            "The image has no busybox, with which a virtual machine begins.",
            'Add it to the recipe: packages = ["busybox"]',
        )
    cpio.write(out, _content(tree, modules, command))


def _content(tree: Tree, modules: Mapping[str, bytes], command: str) -> Iterator[tuple[Entry, bytes]]:
    taken = sorted(_taken(tree), key=by_bytes)
    folders = {parent for path in taken for parent in _parents(path)}
    for path in sorted(folders, key=by_bytes):
        yield Entry(path, "dir", 0o755), b""
    for path in taken:
        entry = tree.entries[path]
        yield entry, tree.contents.read(entry.digest) if entry.kind == "file" else b""
    for folder in ("dev", "proc", "sys", "image", "memory", "root", "modules", "machine"):
        yield Entry(folder, "dir", 0o755), b""
    # The kernel opens it for the first process before anything is mounted.
    yield Entry("dev/console", "char", 0o600, device=(5, 1)), b""
    for number, (path, module) in enumerate(modules.items()):
        yield Entry(f"modules/{number:02}-{path.rpartition('/')[2]}", "file", 0o644), module
    here = Path(__file__)
    yield Entry("init", "file", 0o755), here.with_name(INIT).read_bytes()
    yield Entry(f"machine/{MACHINE}", "file", 0o755), here.with_name(MACHINE).read_bytes()
    yield Entry("machine/command", "file", 0o644), f"{command}\n".encode()


def _taken(tree: Tree) -> Iterator[str]:
    for path, entry in tree.entries.items():
        folder, _, name = path.rpartition("/")
        library = name in LIBRARIES and folder.startswith(("usr/lib", "lib"))
        top = path in TOPS and entry.kind == "symlink"
        if path == BUSYBOX or top or (library and entry.kind in ("file", "symlink")):
            yield path


def _parents(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path
