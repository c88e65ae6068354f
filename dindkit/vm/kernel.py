"""The kernel of a machine, from its locked package: the file that QEMU starts, and modules."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dindkit.errors import DindkitError
from dindkit.files import open_regular
from dindkit.formats.deb import Deb, Member
from dindkit.image.build_options import BuildOptions
from dindkit.image.staging import Staging
from dindkit.packages import keys as keyrings
from dindkit.packages.download_cache import DownloadCache
from dindkit.packages.lock import Row
from dindkit.progress import Progress
from dindkit.project import Project
from dindkit.vm import kernel_lock, modules

_IMAGE = re.compile(r"boot/vmlinuz-(.+)")
#: What depmod(8) reads beside the modules.
LISTS = ("modules.builtin", "modules.builtin.modinfo", "modules.order")


class KernelError(DindkitError):
    """A package does not hold the kernel that it should."""


@dataclass(frozen=True)
class Kernel:
    """What a machine takes of a kernel's package."""

    #: As `uname -r` says it.
    release: str
    #: What QEMU starts.
    image: bytes
    #: The modules that come before the root file system: path -> ELF file, each after those that it needs.
    early: Mapping[str, bytes]
    #: Files of /usr/lib/modules, relative to the root.
    files: Mapping[str, bytes]


def fetch(project: Project, options: BuildOptions, folder: Path, progress: Progress) -> Kernel:
    """Download the locked kernel where it is not in the cache, check it, and read it.

    `folder`, which must not exist, is left with the package, unpacked. Raises DindkitError.
    """
    lock = kernel_lock.read(project, options)
    rows = [row for row in lock.rows if row.name != kernel_lock.name_of(options.target)]
    if len(rows) != 1:
        raise KernelError(
            f"The lock of the kernel names {len(rows)} of them, and not one.", kernel_lock.ADVICE
        )
    with Staging(folder) as staging:
        keys = keyrings.load(project.keys)
        DownloadCache(project.cache).fetch(rows, keys, progress, lock.snapshots, staging.begin)
        with progress.step("check the kernel", total=1) as step:
            (deb,) = staging.checked(rows, step)
            return read(deb, rows[0])


def read(deb: Deb, row: Row) -> Kernel:
    """Read the kernel of `deb`, a package that was checked. Raises KernelError and ModuleError."""
    members = {member.path: member for member in deb.members if member.kind == "file"}
    images = [path for path in members if _IMAGE.fullmatch(path)]
    known = {modules.name_of(path): path for path in members if modules.name_of(path)}
    missing = [name for name in modules.EARLY if name not in known]
    if len(images) != 1 or missing:
        what = f"the modules {', '.join(missing)}" if missing else "one kernel"
        raise KernelError(f"The package {row.name} {row.version} does not have {what}.")

    def content(path: str) -> bytes:
        return _content(deb, members[path])

    wanted = [name for name, path in known.items() if modules.is_wanted(path)]
    release = images[0].removeprefix("boot/vmlinuz-")
    files = modules.in_order(wanted, known, content)
    for path in members:
        if path.rpartition("/")[2] in LISTS:
            files[path] = content(path)
    return Kernel(
        release,
        content(images[0]),
        modules.in_order(modules.EARLY, known, content),
        # Since the merge of /usr, /lib is a link to it.
        {f"usr/{path.removeprefix('usr/')}": data for path, data in files.items()},
    )


def _content(deb: Deb, member: Member) -> bytes:
    with open_regular(deb.file) as file:
        file.seek(member.start)
        return file.read(member.entry.size)
