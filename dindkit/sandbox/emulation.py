"""Run programs of another architecture in QEMU's user emulation, by binfmt_misc in a user namespace.

binfmt_misc tells the kernel which interpreter to start for a kind of program.

Since Linux 6.7 each user namespace has its own binfmt_misc, so the host's does not change. The interpreter is
opened when it is registered (flag F), so it need not be in the tree. Imports nothing but the standard
library: the sandbox's worker uses it. https://docs.kernel.org/admin-guide/binfmt-misc.html
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import struct
import sys
from pathlib import Path

#: ELF's e_machine and QEMU's name, by Debian's name of the architecture. <linux/elf-em.h>
MACHINES = {"amd64": (62, "x86_64"), "arm64": (183, "aarch64")}
#: Python's name of a machine -> Debian's.
BY_MACHINE = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
#: Whose programs the kernel of an architecture starts as well. Not every arm64 processor does.
RUN_AS_WELL = {"amd64": ("i386",)}

CLONE_NEWUSER = 0x10000000
PR_SET_PDEATHSIG = 1
#: A program segment that names the dynamic linker: <elf.h>.
PT_INTERP = (3).to_bytes(4, "little")
#: A file of /proc that maps every id to itself: user_namespaces(7).
IDENTITY = "0 0 4294967295\n"


def is_foreign(architecture: str) -> bool:
    """Tell whether programs of `architecture` need an emulator here; the empty string is this machine's."""
    machine = platform.machine().lower()
    own = BY_MACHINE.get(machine, machine)
    return architecture not in ("", own, *RUN_AS_WELL.get(own, ()))


def interpreter_names(architecture: str) -> tuple[str, str]:
    """Return Debian's names of the static emulator: until bookworm, and since trixie."""
    return f"qemu-{MACHINES[architecture][1]}-static", f"qemu-{MACHINES[architecture][1]}"


def is_static(program: Path) -> bool:
    """Tell whether the 64-bit ELF `program` starts without a dynamic linker, as it must in a foreign tree.

    The kernel opens the emulator itself beforehand, but its linker and libraries by their paths in the tree.
    Such a program has no PT_INTERP segment: elf(5).
    """
    with program.open("rb") as file:
        head = file.read(64)
        if len(head) < 64 or head[:6] != b"\x7fELF\x02\x01":
            return False
        start, size, count = *struct.unpack_from("<Q", head, 32), *struct.unpack_from("<HH", head, 54)
        file.seek(start)
        segments = file.read(size * count)
    return all(segments[at : at + 4] != PT_INTERP for at in range(0, len(segments), size or 1))


def registration(architecture: str, interpreter: str) -> bytes:
    """Return the line for binfmt_misc: 64-bit little-endian ELF programs and libraries of `architecture`."""
    machine = MACHINES[architecture][0].to_bytes(2, "little")
    magic = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00" + machine
    # Any ABI; the types 2 (program) and 3 (position-independent program, or library).
    mask = b"\xff" * 7 + b"\x00" + b"\xff" * 8 + b"\xfe\xff\xff\xff"
    name = f"dindkit-{architecture}"
    fields = [name, "M", "0", _escaped(magic), _escaped(mask), interpreter, "F"]
    return (":" + ":".join(fields)).encode()


def _escaped(data: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in data)


def run_in_user_namespace(argv: list[str]) -> int:
    """Run a program in a new user namespace that maps every id to itself; needs root.

    unshare(1) can map so many ids only through newuidmap(1), which needs subordinate ids of root. Returns the
    exit code; the program ends with this process.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    made, map_written = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        if libc.unshare(CLONE_NEWUSER):
            print(f"unshare: {os.strerror(ctypes.get_errno())}", file=sys.stderr)  # noqa: T201
            os._exit(1)
        os.write(made[1], b"x")
        os.close(map_written[1])
        if os.read(map_written[0], 1):
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            os.execv(argv[0], argv)  # noqa: S606
        os._exit(1)
    os.close(made[1])
    if os.read(made[0], 1):
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{child}/{name}").write_text(IDENTITY)
        os.write(map_written[1], b"x")
    os.close(map_written[1])
    _, status = os.waitpid(child, 0)
    return max(os.waitstatus_to_exitcode(status), -1) % 256
