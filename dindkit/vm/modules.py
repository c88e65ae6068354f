"""Kernel modules: which of a kernel's modules a machine gets, and what each of them needs."""

from __future__ import annotations

import lzma
import re
import struct
from collections.abc import Callable, Iterable, Mapping

from dindkit.errors import DindkitError

#: The folders and files of a kernel's modules that Docker, and what people run in containers, may ask for.
WANTED = (
    "crypto/",
    "drivers/block/loop",
    "drivers/block/nbd",
    "drivers/char/hw_random/virtio-rng",
    "drivers/net/bonding/",
    "drivers/net/dummy",
    "drivers/net/ifb",
    "drivers/net/ipvlan/",
    "drivers/net/macvlan",
    "drivers/net/macvtap",
    "drivers/net/tun",
    "drivers/net/veth",
    "drivers/net/virtio_net",
    "drivers/net/vxlan/",
    "drivers/net/wireguard/",
    "fs/binfmt_misc",
    "fs/erofs/",
    "fs/isofs/",
    "fs/nfs/",
    "fs/overlayfs/",
    "fs/squashfs/",
    "net/8021q/",
    "net/bridge/",
    "net/ipv4/",
    "net/ipv6/",
    "net/netfilter/",
    "net/sched/",
    "net/xfrm/",
)
#: What the machine needs before it has its root file system.
EARLY = ("virtio_blk", "virtio_net", "virtio_rng", "erofs", "overlay")

_PATH = re.compile(r"(?:usr/)?lib/modules/[^/]+/kernel/(.+)/([^/]+)\.ko(?:\.xz)?")


class ModuleError(DindkitError):
    """A kernel lacks a module, or has one that is none."""


def name_of(path: str) -> str:
    """Return the name of the module at `path` in a package, or the empty string where it is none.

    The kernel takes `-` and `_` for the same.
    """
    found = _PATH.fullmatch(path)
    return found[2].replace("-", "_") if found else ""


def is_wanted(path: str) -> bool:
    """Tell whether the module at `path` in a package is one that a machine gets."""
    found = _PATH.fullmatch(path)
    return found is not None and f"{found[1]}/{found[2]}".startswith(WANTED)


def unpacked(path: str, data: bytes) -> bytes:
    """Return a module's ELF file, of the bytes of the file at `path`. Raises ModuleError."""
    try:
        return lzma.decompress(data) if path.endswith(".xz") else data
    except lzma.LZMAError as error:
        raise ModuleError(f"The kernel's module {path} is damaged ({error}).") from error


def needs(module: bytes, name: str) -> tuple[list[str], list[str]]:
    """Return the names of the modules that `module` needs, and of those that it asks for first if there.

    They are in its section .modinfo, `depends=` and `softdep=`: modinfo(8). Raises ModuleError.
    """
    needed: list[str] = []
    wanted: list[str] = []
    for line in _section(module, b".modinfo", name).split(b"\0"):
        key, _, value = line.decode(errors="replace").partition("=")
        if key == "depends":
            needed += [one.replace("-", "_") for one in value.split(",") if one]
        elif key == "softdep":
            before = value.partition("post:")[0].partition("pre:")[2]
            wanted += [one.replace("-", "_") for one in before.split()]
    return needed, wanted


def _section(elf: bytes, wanted: bytes, name: str) -> bytes:
    """Return a section of a 64-bit little-endian ELF file: elf(5)."""
    try:
        if elf[:6] != b"\x7fELF\x02\x01":
            raise ValueError("not a 64-bit ELF file")
        start, size, count, names = *struct.unpack_from("<Q", elf, 40), *struct.unpack_from("<HHH", elf, 58)
        sections = [
            struct.unpack_from("<IIQQQQ", elf, start + number * size) for number in range(count)
        ]  # name, type, flags, address, offset, size
        strings = sections[names][4]
        for head in sections:
            at = strings + head[0]
            if elf[at : elf.index(b"\0", at)] == wanted:
                return elf[head[4] : head[4] + head[5]]
    except (struct.error, IndexError, ValueError) as error:
        raise ModuleError(f"The kernel's module {name} is no module ({error}).") from error
    return b""


def in_order(
    names: Iterable[str], known: Mapping[str, str], read: Callable[[str], bytes]
) -> dict[str, bytes]:
    """Return the modules `names` and all that they need, each after those, as path -> ELF file.

    `known` is the path of each module by its name, and `read` returns the bytes of a path. What is not among
    them is part of the kernel itself. Raises ModuleError.
    """
    found: dict[str, bytes] = {}
    begun: set[str] = set()

    def add(name: str) -> None:
        if name in begun or name not in known:
            return
        begun.add(name)
        path = known[name]
        module = unpacked(path, read(path))
        needed, wanted = needs(module, name)
        for other in (*wanted, *needed):
            add(other)
        found[path.removesuffix(".xz")] = module

    for name in names:
        add(name)
    return found
