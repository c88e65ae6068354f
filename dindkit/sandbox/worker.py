"""The worker inside the sandbox: a tar comes in, a script runs in its tree, a tar goes out.

Runs as a program of its own (namespaces.py says how) in fresh namespaces, so it imports nothing but the
standard library and the reader and writer of tar streams. Exit codes other than 0 are `SCRIPT_FAILED`,
`NO_SPACE` and `NO_MOUNT`; standard error has the output of the script and the worker's errors.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import stat
import sys
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from dindkit.formats.folder import pack, unpack
from dindkit.sandbox import confine, emulation

SCRIPT_FAILED = 10
NO_SPACE = 11
NO_MOUNT = 12

#: The folder with the packages, in the root of the tree.
PACKAGES_FOLDER = ".dindkit"

#: The devices in the sandbox. They are bind mounts: a user namespace may not make device nodes.
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")

#: Paths in /proc that change the host: mounted read-only, as in containers.
HOSTS = ("bus", "fs", "irq", "sys", "sysrq-trigger")

#: Paths in /proc that reveal the host: hidden, as in containers.
MASKED = (
    "acpi",
    "asound",
    "kcore",
    "keys",
    "latency_stats",
    "sched_debug",
    "scsi",
    "timer_list",
    "timer_stats",
)

# <sys/mount.h> and <sched.h>
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND = 1, 2, 4, 8, 32, 4096
MS_REC, MS_PRIVATE = 16384, 1 << 18
GUARDED = MS_NOSUID | MS_NODEV | MS_NOEXEC
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


def _mask(path: str) -> None:
    """Hide `path`, as containers do. Not every kernel has each of MASKED."""
    if os.path.isdir(path):  # noqa: PTH112
        _mount("none", path, "tmpfs", MS_RDONLY | GUARDED)
    elif os.path.exists(path):  # noqa: PTH110
        _mount("/dev/null", path, "", MS_BIND)


def _prepare(root: str, packages: str) -> None:
    """Mount into the tree at `root` what scripts need: some of /dev, /proc, and the packages."""
    if packages:
        place = f"{root}/{PACKAGES_FOLDER}"
        os.mkdir(place)  # noqa: PTH102 - fails where the tree has something here
        _mount(packages, place, "", MS_BIND)
        _mount("none", place, "", MS_REMOUNT | MS_BIND | MS_RDONLY | GUARDED)
    for name in ("dev", "proc"):
        with suppress(FileExistsError):
            os.mkdir(f"{root}/{name}")  # noqa: PTH102
        if not stat.S_ISDIR(os.lstat(f"{root}/{name}").st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "the tree has no folder here", f"/{name}")
    _mount("dev", f"{root}/dev", "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=0755,size=1m")
    for name in DEVICES:
        Path(f"{root}/dev/{name}").touch()
        _mount(f"/dev/{name}", f"{root}/dev/{name}", "", MS_BIND)
    for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        os.symlink(f"/proc/self/fd{target}", f"{root}/dev/{name}")  # noqa: PTH211
    _mount("proc", f"{root}/proc", "proc", GUARDED)
    for path in (f"{root}/proc/{name}" for name in HOSTS):
        if os.path.exists(path):  # noqa: PTH110 - not every kernel has each of them
            _mount(path, path, "", MS_BIND)
            _mount("none", path, "", MS_REMOUNT | MS_BIND | MS_RDONLY | GUARDED)
    for name in MASKED:
        _mask(f"{root}/proc/{name}")


def _enter(root: str) -> None:
    """Make `root` the root of this process and its children; they cannot reach the old root any more."""
    os.chdir(root)
    # The old root is then stacked on the new one: pivot_root(2), "pivot_root(".", ".")".
    _libc("pivot_root", ".", ".")
    _libc("umount2", ".", MNT_DETACH)
    os.chdir("/")
    sys.path.clear()  # a module imported after this would come from the tree


def is_full(error: OSError) -> bool:
    """Tell whether a file system has no space left."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def in_child(work: Callable[[], int]) -> int:
    """Return the exit code of a child process that does `work`, or 1 where a signal ends it."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = work()
        except OSError as error:
            print(error, file=sys.stderr)  # noqa: T201
            code = NO_SPACE if is_full(error) else 1
        except tarfile.TarError as error:
            print(error, file=sys.stderr)  # noqa: T201
        finally:
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return max(os.waitstatus_to_exitcode(status), -1) % 256


def _unpack(root: str) -> int:
    """Extract the tree from standard input; it is this process's root before the first file is written."""
    os.chroot(root)
    os.chdir("/")
    sys.path.clear()
    unpack(sys.stdin.buffer, "/")
    return 0


def run_script(script: str) -> int:
    """Execute the shell of the tree that is this process's root with `script`, confined."""
    os.setsid()  # a new session has no terminal to type into
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    confine.drop_capabilities()
    confine.refuse_calls()
    os.execve("/bin/sh", ["/bin/sh", "-euc", script], os.environ)  # noqa: S606


def _end_all() -> None:
    """Kill all processes that the script has left, and wait for their end.

    This worker is PID 1 of its namespace, so these are all other processes, and become its children.
    """
    with suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    with suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def _pack(packages: str) -> int:
    for name in ("dev", "proc", *([PACKAGES_FOLDER] if packages else [])):
        _libc("umount2", f"/{name}", MNT_DETACH)
    pack("/", sys.stdout.buffer)
    sys.stdout.buffer.flush()
    return 0


def _emulate(root: str, architecture: str, interpreter: str) -> None:
    """Let the kernel start programs of `architecture` by `interpreter`, in this user namespace."""
    _mount("binfmt_misc", root, "binfmt_misc", GUARDED)
    Path(root, "register").write_bytes(emulation.registration(architecture, interpreter))
    # The registration lasts as long as the mount. PID 1 keeps it by a descriptor; no script can see it.
    os.open(root, os.O_PATH | os.O_DIRECTORY)
    _libc("umount2", root, MNT_DETACH)


def main(root: str, size: str, hostname: str, script: str, packages: str = "", emulator: str = "") -> int:
    """Run `script` in the tree that standard input holds, and return the exit code.

    The folder `packages` of the host, unless empty, is mounted at PACKAGES_FOLDER, read-only. `emulator` is
    `ARCHITECTURE:PATH` where programs of another architecture run.
    """
    os.umask(0o022)
    try:
        _libc("unshare", CLONE_NEWNS)
        _mount("none", "/", "", MS_REC | MS_PRIVATE)
        if emulator:
            architecture, _, interpreter = emulator.partition(":")
            _emulate(root, architecture, interpreter)
        _mount("tree", root, "tmpfs", MS_NODEV, f"mode=0755,size={size}")
        _libc("sethostname", hostname, len(hostname))
    except OSError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return NO_MOUNT
    code = in_child(lambda: _unpack(root))
    if code:
        return code
    try:
        _prepare(root, packages)
        _enter(root)
    except OSError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return NO_MOUNT
    confine.hide()  # scripts must not reach its descriptors, which lead out of the tree
    code = in_child(lambda: run_script(script))
    _end_all()
    return SCRIPT_FAILED if code else in_child(lambda: _pack(packages))
