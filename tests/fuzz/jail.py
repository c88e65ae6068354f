"""Lay files out in a folder that is watched from outside: nothing may change around it."""

from __future__ import annotations

import os
import stat
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

from dindkit.errors import DindkitError
from dindkit.formats.layer import bad_bytes

#: Where absolute links of hostile trees lead; in the jail, each of these has a file.
HOST = ("etc", "usr/sbin", "usr/bin", "lib", "work", "work/beside", "tmp", "root")

REFUSED, FAILED = 3, 4


def contained(folder: Path, act: Callable[[Path], None]) -> Path:
    """Run `act(tree)` with an empty `tree` in a process whose root is a jail; return the tree's real path.

    Root is needed for the jail, without it only what `..` can reach is watched. Raises DindkitError where
    `act` does, AssertionError where it raises something else or where anything outside of the tree changed.
    """
    jail = Path(tempfile.mkdtemp(prefix="jail-", dir=folder))
    for name in HOST:
        (jail / name).mkdir(parents=True, exist_ok=True)
        (jail / name / "kept").write_text(f"the host's {name}\n")
    tree = jail / "work" / "tree"
    tree.mkdir()
    before = snapshot(jail, tree)
    bad_bytes()  # imports its decoders now: none can be found in the jail
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os._exit(_in_jail(jail, tree, act, writing))
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read().decode(errors="replace")
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    after = snapshot(jail, tree)
    assert after == before, f"changed outside of the tree: {sorted(set(after.items()) ^ set(before.items()))}"
    if code == REFUSED:
        raise DindkitError(said)
    assert code == 0, f"exit code {code}: {said}"
    return tree


def _in_jail(jail: Path, tree: Path, act: Callable[[Path], None], writing: int) -> int:
    code = 0
    try:
        if os.geteuid() == 0:
            os.chroot(jail)
            os.chdir("/")
            tree = Path("/") / tree.relative_to(jail)
        act(tree)
    except (DindkitError, OSError) as error:  # the edge makes a sentence of the latter, too
        os.write(writing, str(error).encode(errors="replace"))
        code = REFUSED
    except BaseException:
        os.write(writing, traceback.format_exc().encode(errors="replace")[-60_000:])
        code = FAILED
    return code


def snapshot(folder: Path, without: Path) -> dict[str, tuple[object, ...]]:
    """Return what there is to see of every path under `folder`, but for those below `without`."""
    found: dict[str, tuple[object, ...]] = {}
    for place, folders, files in os.walk(folder):
        if Path(place) == without:
            folders.clear()
            continue
        for name in (*folders, *files):
            path = Path(place, name)
            about = path.lstat()
            if path == without:  # its own owner, mode and time may be set
                continue
            content = path.read_bytes() if stat.S_ISREG(about.st_mode) else b""
            times = 0 if stat.S_ISDIR(about.st_mode) else about.st_mtime_ns
            found[str(path)] = (about.st_mode, about.st_uid, about.st_gid, about.st_nlink, times, content)
    return found
