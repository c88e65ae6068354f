"""Remove from a tree what would differ between two builds of the same packages, and nothing else."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import replace

from dindkit.formats.tree import Tree

#: Paths that are removed: logs, caches, backups of databases, and files that belong to one machine. A pattern
#: that ends in /* empties a folder; the folder and files of packages in it stay. Of the mount points `dev`,
#: `proc`, `run` and `sys`, which base-files brings, each kind of sandbox makes some in a tree without them.
GONE = (
    ".dockerenv",
    "boot/*",
    "dev",
    "dev/*",
    "etc/.pwd.lock",
    "etc/apt/apt.conf.d/01autoremove-kernels",
    "etc/group-",
    "etc/gshadow-",
    "etc/hostname",
    "etc/hosts",
    "etc/mtab",
    "etc/passwd-",
    "etc/resolv.conf",
    "etc/shadow-",
    "etc/subgid-",
    "etc/subuid-",
    "proc",
    "proc/*",
    "run",
    "run/*",
    "sys",
    "sys/*",
    "tmp/*",
    "var/cache/apt/*.bin",
    "var/cache/apt/archives/*",
    "var/cache/debconf/*-old",
    "var/cache/ldconfig/aux-cache",
    "var/lib/apt/lists/*",
    "var/lib/dbus/machine-id",
    "var/lib/dpkg/diversions-old",
    "var/lib/dpkg/lock",
    "var/lib/dpkg/lock-frontend",
    "var/lib/dpkg/statoverride-old",
    "var/lib/dpkg/status-old",
    "var/lib/dpkg/triggers/Lock",
    "var/lib/systemd/random-seed",
    "var/log/alternatives.log",
    "var/log/apt/*",
    "var/log/bootstrap.log",
    "var/log/dpkg.log",
    "var/tmp/*",
)

#: base-files makes this folder, and /var/lock is a link to it.
KEPT = "run/lock"

#: Files with one record per line whose order depends on the order of installation.
SORTED = ("etc/shells", "var/lib/dpkg/triggers/File", "var/lib/dpkg/triggers/Unincorp")


def normalize(tree: Tree, epoch: int, shipped: Mapping[str, int]) -> None:
    """Make `tree` the same for everyone who builds it.

    `epoch` is the lock's, in seconds; `shipped` gives the modification time that a package's archive has for
    each of its files. Such a file keeps its time (at most `epoch`); everything else was made during the build
    and gets `epoch`.
    """
    _drop(tree, shipped)
    tree.sort_names()
    for path in SORTED:
        _sort_lines(tree, path)
    _sort_status(tree)
    _shadow(tree, epoch)
    if tree.entries.get("etc/machine-id"):
        tree.edit("etc/machine-id", "")
    for path, entry in tree.entries.items():
        kept = entry.kind != "dir" and shipped.get(path) == entry.mtime
        tree.entries[path] = replace(entry, mtime=min(entry.mtime, epoch) if kept else epoch)
    tree.entries[""] = replace(tree.entries[""], mode=0o755, uid=0, gid=0)


def is_cache(path: str) -> bool:
    """Tell whether `path` is a folder of Python bytecode, which is removed even if a package ships it."""
    return path.rpartition("/")[2] == "__pycache__"


def is_gone(path: str) -> bool:
    """Tell whether `path` is removed, with all below it, unless a package ships it."""
    return is_cache(path) or (path != KEPT and any(_matches(path, pattern) for pattern in GONE))


def _drop(tree: Tree, shipped: Mapping[str, int]) -> None:
    roots = [path for path in tree.entries if is_cache(path) or (path not in shipped and is_gone(path))]
    for path in roots:
        if path in tree.entries:
            tree.remove(path)


def _matches(path: str, pattern: str) -> bool:
    return path.count("/") == pattern.count("/") and fnmatch.fnmatchcase(path, pattern)


def _sort_lines(tree: Tree, path: str) -> None:
    text = tree.text(path)
    if text:
        comments = [line for line in text.splitlines() if line.startswith("#")]
        lines = sorted(line for line in text.splitlines() if not line.startswith("#"))
        tree.edit(path, "".join(f"{line}\n" for line in comments + lines))


def _sort_status(tree: Tree) -> None:
    """Sort the stanzas of dpkg's database by package."""
    text = tree.text("var/lib/dpkg/status")
    stanzas = sorted(stanza.strip("\n") for stanza in text.split("\n\n") if stanza.strip())
    if stanzas:
        tree.edit("var/lib/dpkg/status", "".join(f"{stanza}\n\n" for stanza in stanzas))


def _shadow(tree: Tree, epoch: int) -> None:
    """Set the day of the last password change, shadow(5) field 3, to that of `epoch`."""
    text = tree.text("etc/shadow")
    if not text:
        return
    lines = [line.split(":") for line in text.splitlines()]
    for fields in lines:
        if len(fields) > 2 and fields[2]:
            fields[2] = str(epoch // 86400)
    tree.edit("etc/shadow", "".join(":".join(fields) + "\n" for fields in lines))
