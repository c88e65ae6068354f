"""The files that a machine boots from: the kernel, the first root file system, and disks."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from dindkit.engine.daemon_settings import entrypoint
from dindkit.files import open_regular
from dindkit.formats import erofs
from dindkit.formats.contents import ContentStore
from dindkit.formats.entry import Entry
from dindkit.formats.tree import Tree
from dindkit.image.built import Built, opened
from dindkit.progress import Progress, size
from dindkit.vm import initramfs
from dindkit.vm.kernel import Kernel


@dataclass(frozen=True)
class BootFiles:
    """The files in `folder`, whether they are there or not."""

    folder: Path

    @property
    def kernel(self) -> Path:
        """The kernel."""
        return self.folder / "kernel"

    @property
    def initramfs(self) -> Path:
        """The first root file system."""
        return self.folder / "initramfs"

    @property
    def root(self) -> Path:
        """The disk with the image, which is only read."""
        return self.folder / "root.erofs"


def write(
    files: BootFiles,
    built: Built,
    kernel: Kernel,
    progress: Progress,
    *,
    added: Mapping[str, Path] | None = None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Write `files` for `built`, whose layers are hashed as they are read.

    `added` are files of this machine by their paths in the tree, relative to the root; `environment` comes
    in addition to the image's and to daemon_settings. Raises DindkitError.
    """
    with (
        progress.step("lay out the machine's disk") as step,
        opened(built) as layout,
        closing(ContentStore(files.folder)) as contents,
    ):
        tree = layout.tree(contents)
        command = ["exec", *entrypoint(layout.image.config["config"], environment or {})]
        with files.initramfs.open("xb") as out:
            initramfs.write(out, tree, kernel.early, shlex.join(command))
        files.kernel.write_bytes(kernel.image)
        for path, data in kernel.files.items():
            tree.put(path, data)
        for path, source in (added or {}).items():
            _add(tree, path, source)
        with files.root.open("xb") as out:
            step.detail = size(erofs.write(tree, out))


def _add(tree: Tree, path: str, source: Path) -> None:
    with open_regular(source) as file:
        digest, count = tree.contents.add(file)
    tree.add(Entry(path, "file", 0o644, size=count, digest=digest))


def make_disk(file: Path, count: int) -> None:
    """Make an empty disk of `count` bytes; the machine gives it a file system. It takes what is written."""
    with file.open("xb") as out:
        out.truncate(count)
