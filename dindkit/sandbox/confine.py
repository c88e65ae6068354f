"""Restrict maintainer scripts to the capabilities and system calls that dpkg's work needs.

capabilities(7), prctl(2), seccomp(2). Imports nothing but the standard library: the sandbox's worker uses it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

#: Capabilities that scripts keep, by number, <linux/capability.h>: to give files any owner, mode and
#: capability, to become another user, to end another user's process.
KEPT = {
    "chown": 0,
    "dac_override": 1,
    "fowner": 3,
    "fsetid": 4,
    "kill": 5,
    "setgid": 6,
    "setuid": 7,
    "setfcap": 31,
}

PR_SET_DUMPABLE, PR_CAPBSET_READ, PR_CAPBSET_DROP = 4, 23, 24
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 22, 38
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
SECCOMP_MODE_FILTER = 2
CAPABILITY_VERSION = 0x20080522

#: System calls that are refused, by name: their numbers on x86_64 and on aarch64 (-1: it has none).
REFUSED = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "bpf": (321, 280),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "init_module": (175, 105),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "ioperm": (173, -1),
    "iopl": (172, -1),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "lookup_dcookie": (212, 18),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "nfsservctl": (180, 42),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "userfaultfd": (323, 282),
    "vhangup": (153, 58),
}

#: By machine: seccomp's number (<linux/audit.h>), and the calls whose arguments are checked.
MACHINES = {
    "x86_64": {"audit": 0xC000003E, "clone": 56, "clone3": 435, "unshare": 272, "ioctl": 16},
    "aarch64": {"audit": 0xC00000B7, "clone": 220, "clone3": 435, "unshare": 97, "ioctl": 29},
}

#: CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET and NEWTIME: <linux/sched.h>.
NEW_NAMESPACE = 0x7E020080
#: The ioctls TIOCSTI and TIOCLINUX, which can type into a terminal: <asm-generic/ioctls.h>.
KEYS = (0x5412, 0x541C)

# <linux/bpf_common.h>, <linux/seccomp.h>
LOAD, JUMP_EQUAL, JUMP_GREATER_EQUAL, JUMP_ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000
NUMBER, ARCHITECTURE, FIRST, SECOND = 0, 4, 16, 24  # offsets in struct seccomp_data, of the lower halves

#: The x32 ABI has a second number with this bit for every call.
X32 = 0x40000000


def _step(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    """Return one instruction, struct sock_filter; a jump skips `yes` or `no` instructions."""
    return struct.pack("=HBBI", code, yes, no, value)


def _if(code: int, value: int, then: list[bytes]) -> list[bytes]:
    return [_step(code, value, 0, len(then)), *then]


def program(machine: str) -> bytes:
    """Return the filter for `machine` as an array of struct sock_filter, or nothing for an unknown one.

    Refused calls fail with EPERM, as for missing privileges. clone3 fails with ENOSYS, because a filter
    cannot read its flags; C libraries then call clone.
    """
    if machine not in MACHINES:
        return b""
    known = MACHINES[machine]
    column = list(MACHINES).index(machine)
    refuse = [_step(RETURN, REFUSE | errno.EPERM)]
    namespaces = [_step(LOAD, FIRST), *_if(JUMP_ANY_BIT, NEW_NAMESPACE, refuse), _step(RETURN, ALLOW)]
    keys = [step for request in KEYS for step in _if(JUMP_EQUAL, request, refuse)]
    steps = [_step(LOAD, ARCHITECTURE), _step(JUMP_EQUAL, known["audit"], 1, 0), *refuse, _step(LOAD, NUMBER)]
    if machine == "x86_64":
        steps += _if(JUMP_GREATER_EQUAL, X32, refuse)
    for numbers in REFUSED.values():
        if numbers[column] >= 0:
            steps += _if(JUMP_EQUAL, numbers[column], refuse)
    steps += _if(JUMP_EQUAL, known["clone3"], [_step(RETURN, REFUSE | errno.ENOSYS)])
    steps += _if(JUMP_EQUAL, known["clone"], namespaces)
    steps += _if(JUMP_EQUAL, known["unshare"], namespaces)
    steps += _if(JUMP_EQUAL, known["ioctl"], [_step(LOAD, SECOND), *keys, _step(RETURN, ALLOW)])
    return b"".join([*steps, _step(RETURN, ALLOW)])


def prctl(option: int, *words: int) -> int:
    """Ask the kernel for an operation on this process, and return its answer. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    padded = [ctypes.c_ulong(word) for word in (*words, 0, 0, 0, 0)[:4]]
    result: int = libc.prctl(option, *padded)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl {option}: {os.strerror(number)}")
    return result


def hide() -> None:
    """Keep this process's memory, descriptors and root from others of its user."""
    prctl(PR_SET_DUMPABLE, 0)


def drop_capabilities() -> None:
    """Drop all capabilities but KEPT, for this process and the programs that it executes."""
    number = 0
    while True:
        try:
            held = prctl(PR_CAPBSET_READ, number)
        except OSError:  # EINVAL: this kernel has no capability of that number
            break
        if held and number not in KEPT.values():
            prctl(PR_CAPBSET_DROP, number)
        number += 1
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    mask = sum(1 << number for number in KEPT.values())
    low, high = mask & 0xFFFFFFFF, mask >> 32
    head = ctypes.create_string_buffer(struct.pack("=Ii", CAPABILITY_VERSION, 0))
    sets = ctypes.create_string_buffer(struct.pack("=6I", low, low, 0, high, high, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capset(head, sets) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def refuse_calls() -> None:
    """Install the filter `program`, and let no set-id program gain privileges, from now on."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    steps = program(platform.machine())
    if not steps:
        return
    code = ctypes.create_string_buffer(steps, len(steps))
    # struct sock_fprog: a count, padding, a pointer.
    fprog = ctypes.create_string_buffer(struct.pack("@HP", len(steps) // 8, ctypes.addressof(code)))
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(fprog))
