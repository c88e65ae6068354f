"""The worker inside the sandbox: a tar comes in, a script runs in its tree, a tar goes out.

Runs as a program of its own (namespaces.py says how) in fresh namespaces, so it imports nothing but the
standard library and the reader and writer of tar streams. Exit codes other than 0 are `SCRIPT_FAILED`,
`NO_SPACE` and `NO_MOUNT`; standard error carries what the script and the worker have to say.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from dindkit.formats.folder import pack, unpack

SCRIPT_FAILED = 10
NO_SPACE = 11
NO_MOUNT = 12

#: What maintainer scripts may expect of /dev. Bind mounts, because a user namespace may not make nodes.
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")

#: What of /proc changes the host itself. A container has these read-only too, so scripts can do without.
HOSTS = ("bus", "fs", "irq", "sys", "sysrq-trigger")

# <sys/mount.h> and <sched.h>
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND = 1, 2, 4, 8, 32, 4096
MS_REC, MS_PRIVATE = 16384, 1 << 18
MNT_DETACH = 2
CLONE_NEWNS = 0x00020000


def _libc(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    words = [os.fsencode(word) if isinstance(word, str) else word for word in arguments]
    if getattr(libc, name)(*words) != 0:
        number = ctypes.get_errno()
        raise OSError(
            number, f"{name}: {os.strerror(number)}", str(arguments[1] if len(arguments) > 1 else "")
        )


def _mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    _libc("mount", source, target, kind, ctypes.c_ulong(flags), data)


def _enter(root: str) -> None:
    """Make `root` the root of this process, in a mount namespace of its own, with /dev and /proc in it."""
    _libc("unshare", CLONE_NEWNS)
    _mount("none", "/", "", MS_REC | MS_PRIVATE)
    for name in ("dev", "proc"):
        os.makedirs(f"{root}/{name}", exist_ok=True)  # noqa: PTH103
    _mount("dev", f"{root}/dev", "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=0755,size=1m")
    for name in DEVICES:
        Path(f"{root}/dev/{name}").touch()
        _mount(f"/dev/{name}", f"{root}/dev/{name}", "", MS_BIND)
    for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        os.symlink(f"/proc/self/fd{target}", f"{root}/dev/{name}")  # noqa: PTH211
    guarded = MS_NOSUID | MS_NODEV | MS_NOEXEC
    _mount("proc", f"{root}/proc", "proc", guarded)
    for path in (f"{root}/proc/{name}" for name in HOSTS):
        if os.path.exists(path):  # noqa: PTH110 - not every kernel has each of them
            _mount(path, path, "", MS_BIND)
            _mount("none", path, "", MS_REMOUNT | MS_BIND | MS_RDONLY | guarded)
    os.chdir(root)
    _libc(
        "pivot_root", ".", "."
    )  # the old root is then stacked on the new one: pivot_root(2), "pivot_root(".", ".")"
    _libc("umount2", ".", MNT_DETACH)
    os.chdir("/")


def _run(root: str, script: str) -> int:
    """Run `script` with the tree's own shell, return its exit code; nothing that it started survives."""
    done = subprocess.run(
        ["/bin/sh", "-euc", script],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr.fileno(),
        stderr=sys.stderr.fileno(),
        preexec_fn=lambda: _enter(root),
        check=False,
    )
    with suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)  # this worker is PID 1 of its namespace: all the others, and only those
    return done.returncode


def main(root: str, size: str, hostname: str, script: str) -> int:
    """Run `script` in the tree that standard input holds, and return the exit code."""
    os.umask(0o022)
    try:
        _mount("none", "/", "", MS_REC | MS_PRIVATE)
        _mount("tree", root, "tmpfs", MS_NODEV, f"mode=0755,size={size}")
        _libc("sethostname", hostname, len(hostname))
    except OSError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return NO_MOUNT
    try:
        unpack(sys.stdin.buffer, root)
        try:
            code = _run(root, script)
        except (OSError, subprocess.SubprocessError) as error:
            print(error, file=sys.stderr)  # noqa: T201
            return NO_MOUNT
        if code:
            return SCRIPT_FAILED
        pack(root, sys.stdout.buffer)
    except OSError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return NO_SPACE if error.errno in (errno.ENOSPC, errno.EDQUOT) else 1
    return 0
