"""What is on a host that a run could leave: processes, mounts, links, rules, sockets and files."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterable
from pathlib import Path

#: Of a run, in the environment of each of its processes.
MARK = "DINDKIT_FAULT"


def snapshot(folders: Iterable[Path], mark: str, *, content: bool = True) -> set[str]:
    """Return a line for each thing: the processes with `mark`, the network, what is in `folders`.

    `content` tells files by what they hold, too.
    """
    folders = list(folders)
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    unix = [line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    found = {
        "process": processes(mark),
        "mount": [line for line in mounts if any(str(one) in line for one in folders)],
        "link": [name for _, name in socket.if_nameindex()],
        "rule": _rules(),
        "socket": [path for path in unix if any(path.startswith(str(one)) for one in folders)],
        "file": [line for folder in folders for line in _files(folder, content)],
    }
    return {f"{kind}: {line}" for kind, lines in found.items() for line in lines}


def processes(mark: str) -> list[str]:
    """Return the command lines of what lives with `mark` in its environment, or in the session it names."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _parent, _group, session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            marked = f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0")
            if state != "Z" and (session == mark or marked):
                found.append((folder / "cmdline").read_text().replace("\0", " ")[:200])
        except OSError:
            continue
    return found


def _rules() -> list[str]:
    nft = shutil.which("nft", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if nft is None or os.geteuid() != 0:
        return []
    said = subprocess.run([nft, "list", "ruleset"], capture_output=True, text=True, check=False).stdout
    return re.sub(r"packets \d+ bytes \d+", "", said).splitlines()


def _files(folder: Path, content: bool) -> list[str]:
    found = []
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(place, name)
            if path.is_symlink():
                found.append(f"{path} -> {path.readlink()}")
            elif path.is_file() and content:
                found.append(f"{path} {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}")
            else:
                found.append(str(path))
    return found
