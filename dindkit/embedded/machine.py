"""The command line that makes a machine of the engine's tree (boot.sh), and what of the host it shares."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from dindkit.embedded.paths import Paths
from dindkit.engine.daemon_settings import entrypoint
from dindkit.image.built import Built, opened

#: Top-level folders of an operating system. All other top-level folders of the host are mounted in the engine
#: at the same path, so that bind mounts find the same files.
SYSTEM = {"bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "lost+found", "proc", "run", "sbin"}
SYSTEM |= {"sys", "usr", "var"}

#: Later mounts of the host appear in the engine too; the engine's mounts do not appear on the host.
UNSHARE = ("unshare", "--mount", "--propagation=slave", "--pid", "--fork", "--kill-child")

#: What the entrypoint is told: a daemon that listens at its socket alone.
DAEMON = ("dockerd", "--host=unix:///var/run/docker.sock")


def script(name: str) -> Path:
    """Return the path of a script beside this module."""
    return Path(__file__).with_name(name)


def in_background(paths: Paths, cgroups: Sequence[Path], unshare: Sequence[str]) -> list[str | Path]:
    """Return the words that start what follows in new namespaces, in the folders `cgroups`, with its log."""
    return ["sh", script("enter.sh"), paths.log, *cgroups, "--", "setsid", "--fork", *unshare]


def boot(
    paths: Paths, built: Built, tree: Path, cgroup: str, before: Sequence[str] = (), **environment: str
) -> list[str | Path]:
    """Return the command that makes a machine of `tree`, and runs the entrypoint of `built` in it.

    `cgroup` is boot.sh's word. The entrypoint is run by the words `before`, and `environment` is added to the
    image's own.
    """
    with opened(built) as archive:
        config = archive.image.config["config"]
    machine: list[str | Path] = ["sh", script("boot.sh"), paths.machine, tree, cgroup, *_shares(paths), "--"]
    return [*machine, *entrypoint(config, environment, before), *DAEMON]


def _shares(paths: Paths) -> list[Path]:
    """Return pairs of a host path and the path in the engine where boot.sh mounts it."""
    tops = [path for path in sorted(Path("/").iterdir()) if path.is_dir() and path.name not in SYSTEM]
    pairs = [(top.resolve(), top) for top in tops]
    if not any(paths.folder.is_relative_to(top) for top in tops):
        pairs.append((paths.folder, paths.folder))
    pairs += [(paths.data, Path("/var/lib/docker")), (paths.run, Path("/run"))]
    if Path("/lib/modules").is_dir():
        pairs.append((Path("/lib/modules"), Path("/lib/modules")))
    for name in ("hosts", "resolv.conf"):
        if (source := _readable(name)) is not None:
            shutil.copyfile(source, paths.etc / name)
            pairs.append((paths.etc / name, Path("/etc", name)))
    return [path for pair in pairs for path in pair]


def _readable(name: str) -> Path | None:
    """Return the host's /etc/`name`, or systemd-resolved's own file where the host's names its local stub."""
    behind_stub = Path("/run/systemd/resolve/resolv.conf")
    if name == "resolv.conf" and behind_stub.exists():
        return behind_stub
    path = Path("/etc", name)
    return path if path.exists() else None
