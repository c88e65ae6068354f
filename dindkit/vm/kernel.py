"""The kernel of a machine, from its locked packages: the file that QEMU starts, and modules."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dindkit.errors import DindkitError
from dindkit.files import open_regular
from dindkit.formats.deb import Deb, Member
from dindkit.image.build_options import BuildOptions
from dindkit.image.staging import Staging
from dindkit.packages import keys as keyrings
from dindkit.packages.download_cache import DownloadCache
from dindkit.progress import Progress
from dindkit.project import Project
from dindkit.vm import kernel_lock, modules

#: Where Debian has the file that is booted: until trixie, and since forky.
_IMAGE = re.compile(r"boot/vmlinuz-(.+)|usr/lib/modules/([^/]+)/vmlinuz")
#: What depmod(8) reads beside the modules.
LISTS = ("modules.builtin", "modules.builtin.modinfo", "modules.order")


class KernelError(DindkitError):
    """Packages do not hold the kernel that they should."""


@dataclass(frozen=True)
class Kernel:
    """What a machine takes of a kernel's packages."""

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

    `folder`, which must not exist, is left with the packages, unpacked. Raises DindkitError.
    """
    lock = kernel_lock.read(project, options)
    with Staging(folder) as staging:
        keys = keyrings.load(project.keys)
        DownloadCache(project.cache).fetch(lock.rows, keys, progress, lock.snapshots, staging.begin)
        with progress.step("check the kernel", total=len(lock.rows)) as step:
            found = read(staging.checked(lock.rows, step))
            staging.hold(lock.rows)()
            return found


def read(debs: Sequence[Deb]) -> Kernel:
    """Read the kernel of `debs`, packages that were checked. Raises KernelError and ModuleError."""
    members = {member.path: (deb, member) for deb in debs for member in deb.members if member.kind == "file"}
    images = {path: found for path in members if (found := _IMAGE.fullmatch(path))}
    known = {modules.name_of(path): path for path in members if modules.name_of(path)}
    missing = [name for name in modules.EARLY if name not in known]
    if len(images) != 1 or missing:
        what = f"the modules {', '.join(missing)}" if missing else "one kernel"
        raise KernelError(f"The packages {', '.join(deb.name for deb in debs)} do not have {what}.")

    def content(path: str) -> bytes:
        return _content(*members[path])

    wanted = [name for name, path in known.items() if modules.is_wanted(path)]
    (image, found), *_ = images.items()
    files = modules.in_order(wanted, known, content)
    for path in members:
        if path.rpartition("/")[2] in LISTS:
            files[path] = content(path)
    return Kernel(
        found[1] or found[2],
        content(image),
        modules.in_order(modules.EARLY, known, content),
        # Since the merge of /usr, /lib is a link to it.
        {f"usr/{path.removeprefix('usr/')}": data for path, data in files.items()},
    )


def _content(deb: Deb, member: Member) -> bytes:
    with open_regular(deb.file) as file:
        file.seek(member.start)
        return file.read(member.entry.size)
