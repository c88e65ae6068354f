"""File capabilities, capabilities(7): their names, and how a file's extended attribute holds them."""

from __future__ import annotations

import re
import struct

#: By number: <linux/capability.h>.
_CAPABILITIES = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
]


def decode(value: bytes) -> str:
    """Render the extended attribute security.capability as getcap does: `cap_net_raw=ep`.

    A value that is none, which the kernel would not take either, is rendered in hex.
    """
    if not value or len(value) % 4:
        return f"capabilities that cannot be read: {value.hex()}"
    magic, *words = struct.unpack(f"<{len(value) // 4}I", value)
    pairs = list(zip(words[0:4:2], words[1:4:2], strict=False))
    permitted = sum(low << (32 * index) for index, (low, _) in enumerate(pairs))
    inheritable = sum(low << (32 * index) for index, (_, low) in enumerate(pairs))
    names = [f"cap_{name}" for bit, name in enumerate(_CAPABILITIES) if (permitted | inheritable) >> bit & 1]
    flags = ("e" if magic & 1 else "") + ("i" if inheritable else "") + ("p" if permitted else "")
    return f"{','.join(names)}={flags}"


#: vfs_cap_data of <linux/capability.h>: its second version, and the flag that makes permitted ones effective.
_VERSION = 0x02000000
_EFFECTIVE = 1


def encode(text: str) -> bytes:
    """Return the extended attribute for `text`, such as `cap_setuid,cap_setgid=ep`: permitted and effective.

    Raises ValueError for another form, and for a name that is none.
    """
    if not re.fullmatch(r"cap_[a-z_]+(,cap_[a-z_]+)*=ep", text):
        raise ValueError("the form is cap_NAME,cap_NAME=ep")
    permitted = 0
    for word in text.removesuffix("=ep").split(","):
        name = word.removeprefix("cap_")
        if name not in _CAPABILITIES:
            raise ValueError(f"there is no capability {word}")
        permitted |= 1 << _CAPABILITIES.index(name)
    return struct.pack("<5I", _VERSION | _EFFECTIVE, permitted & 0xFFFFFFFF, 0, permitted >> 32, 0)
