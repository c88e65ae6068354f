"""A module comes after those that it needs, and one that is none is refused. Real ones: test_kernel."""

from __future__ import annotations

import lzma
import struct
from collections.abc import Mapping

import pytest

from dindkit.vm import modules
from dindkit.vm.modules import ModuleError

FOLDER = "usr/lib/modules/6.12.1-cloud-arm64/kernel"


def module(*lines: str) -> bytes:
    """Return an ELF file with a section .modinfo of these lines: elf(5)."""
    info, names = "\0".join(lines).encode() + b"\0", b"\0.modinfo\0.shstrtab\0"
    start = 64
    sections = [(0, 0, 0, 0), (1, 1, start, len(info)), (10, 3, start + len(info), len(names))]
    table = b"".join(
        struct.pack("<IIQQQQIIQQ", name, kind, 0, 0, at, size, 0, 0, 1, 0)
        for name, kind, at, size in sections
    )
    head = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    head += struct.pack(
        "<HHIQQQIHHHHHH", 1, 183, 1, 0, 0, start + len(info) + len(names), 0, 64, 0, 0, 64, 3, 2
    )
    return head + info + names + table


def order(files: Mapping[str, bytes], *names: str) -> list[str]:
    known = {modules.name_of(path): path for path in files}
    found = modules.in_order(names, known, files.__getitem__)
    return [path.rpartition("/")[2] for path in found]


def test_a_module_comes_after_what_it_needs() -> None:
    files = {
        f"{FOLDER}/net/bridge/br_netfilter.ko.xz": lzma.compress(module("depends=bridge")),
        f"{FOLDER}/net/bridge/bridge.ko": module(
            "license=GPL", "depends=stp,llc", "softdep=pre: crc-a post: z"
        ),
        f"{FOLDER}/net/802/stp.ko": module("depends=llc"),
        f"{FOLDER}/net/llc/llc.ko": module("depends="),
        f"{FOLDER}/lib/crc-a.ko": module(),
        f"{FOLDER}/lib/z.ko": module(),
    }
    found = order(files, "br_netfilter", "bridge")
    assert found == ["crc-a.ko", "llc.ko", "stp.ko", "bridge.ko", "br_netfilter.ko"]


def test_what_is_no_module_is_part_of_the_kernel() -> None:
    assert order({f"{FOLDER}/fs/a.ko": module("depends=built_in")}, "a", "ext4") == ["a.ko"]


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        (f"{FOLDER}/net/bridge/bridge.ko.xz", True),
        (f"{FOLDER}/drivers/net/veth.ko.xz", True),
        ("lib/modules/6.1.0/kernel/fs/overlayfs/overlay.ko", True),
        (f"{FOLDER}/drivers/net/ethernet/intel/e1000.ko.xz", False),
        (f"{FOLDER}/net/bridge/notes.txt", False),
        ("boot/net/bridge/bridge.ko", False),
    ],
)
def test_a_machine_gets_what_containers_ask_for(path: str, wanted: bool) -> None:
    assert modules.is_wanted(path) is wanted


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x7fELF\x02\x01",
        module("depends=a")[:-70],
        b"\x7fELF\x01\x01".ljust(200, b"\0"),
        b"#!/bin/sh\n" * 20,
    ],
)
def test_what_is_no_elf_file_is_refused(data: bytes) -> None:
    with pytest.raises(ModuleError, match=r"module a is no module"):
        order({f"{FOLDER}/fs/a.ko": data}, "a")


def test_a_damaged_module_is_refused() -> None:
    with pytest.raises(ModuleError, match=r"a\.ko\.xz is damaged"):
        order({f"{FOLDER}/fs/a.ko.xz": lzma.compress(module())[:-8]}, "a")
