"""A stand-in for Docker's apt archive: Docker's names, versions and layout, Debian's programs.

No package of Docker's own can be had without reaching its archive, so these are Debian's engine binaries
under Docker's roof. What they prove is everything around the binaries: trust, locking, assembling, paths,
booting. Control fields and layout are those of the packages in Docker's archive (June 2026).
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.archive import ArchiveBuilder

#: The suffix of Docker's versions for this suite.
BUILD = "~debian.13~trixie"

POSTINST = """#!/bin/sh
set -e
if [ "$1" = configure ] && ! getent group docker >/dev/null; then
	groupadd --system docker
fi
"""


@dataclass(frozen=True)
class StandIn:
    """One of Docker's packages; `files` maps its paths to Debian's packages and paths."""

    name: str
    version: str
    files: Mapping[str, tuple[str, str]]
    fields: Mapping[str, str] = field(default_factory=dict)
    postinst: str = ""


PACKAGES = (
    StandIn(
        "containerd.io",
        f"2.2.4-1{BUILD}",
        {
            "usr/bin/containerd": ("containerd", "usr/bin/containerd"),
            "usr/bin/containerd-shim-runc-v2": ("containerd", "usr/bin/containerd-shim-runc-v2"),
            "usr/bin/ctr": ("containerd", "usr/bin/ctr"),
            "usr/bin/runc": ("runc", "usr/sbin/runc"),
        },
        {
            "Depends": "libc6 (>= 2.34), libseccomp2 (>= 2.5.0)",
            "Provides": "containerd, runc",
            "Conflicts": "containerd, runc",
            "Replaces": "containerd, runc",
        },
    ),
    StandIn(
        "docker-ce",
        f"5:29.5.3-1{BUILD}",
        {
            "usr/bin/dockerd": ("docker.io", "usr/sbin/dockerd"),
            "usr/bin/docker-proxy": ("docker.io", "usr/sbin/docker-proxy"),
            "usr/libexec/docker/docker-init": ("tini", "usr/bin/tini-static"),
            "usr/lib/systemd/system/docker.service": (
                "docker.io",
                "usr/lib/systemd/system/docker.service",
            ),
            "usr/lib/systemd/system/docker.socket": ("docker.io", "usr/lib/systemd/system/docker.socket"),
        },
        {
            "Pre-Depends": "init-system-helpers (>= 1.54~)",
            "Depends": "containerd.io (>= 1.7.27), docker-ce-cli, iptables, nftables, libc6 (>= 2.34), "
            "libnftables1 (>= 1.0.2), libsystemd0",
            "Recommends": "apparmor, ca-certificates, docker-ce-rootless-extras, git, pigz, procps, xz-utils",
            "Conflicts": "docker (<< 1.5~), docker-engine, docker.io",
            "Replaces": "docker-ce-cli (<< 5:28.0.0), docker-engine",
        },
        POSTINST,
    ),
    StandIn(
        "docker-ce-cli",
        f"5:29.5.3-1{BUILD}",
        {"usr/bin/docker": ("docker-cli", "usr/bin/docker")},
        {
            "Depends": "libc6 (>= 2.34)",
            "Recommends": "docker-buildx-plugin, docker-compose-plugin",
            "Conflicts": "docker (<< 1.5~), docker-engine, docker.io",
            "Breaks": "docker-ce (<< 5:0)",
        },
    ),
    StandIn(
        "docker-buildx-plugin",
        f"0.34.1-1{BUILD}",
        {
            "usr/libexec/docker/cli-plugins/docker-buildx": (
                "docker-buildx",
                "usr/libexec/docker/cli-plugins/docker-buildx",
            )
        },
        {"Enhances": "docker-ce-cli"},
    ),
    StandIn(
        "docker-compose-plugin",
        f"5.1.4-1{BUILD}",
        {
            "usr/libexec/docker/cli-plugins/docker-compose": (
                "docker-compose",
                "usr/libexec/docker/cli-plugins/docker-compose",
            )
        },
        {"Enhances": "docker-ce-cli", "Recommends": "docker-buildx-plugin (>= 0.17.0)"},
    ),
)

#: Debian's packages whose programs are used.
SOURCES = ("containerd", "docker-buildx", "docker-cli", "docker-compose", "docker.io", "runc", "tini")


def fill(archive: ArchiveBuilder, debs: Mapping[str, Path], folder: Path) -> None:
    """Put Docker's packages into `archive`; `debs` has the .deb of each of SOURCES, `folder` is for work."""
    for name in SOURCES:
        subprocess.run(["dpkg-deb", "--extract", debs[name], folder / name], check=True)
    for one in PACKAGES:
        control = {
            "Package": one.name,
            "Version": one.version,
            "Architecture": "amd64",
            "Maintainer": "Docker <support@docker.com>",
            "Priority": "optional",
            "Section": "admin",
            **one.fields,
            "Description": "stand-in made of Debian's programs for a test",
        }
        archive.add_file(_build(one, control, folder), control)


def _build(one: StandIn, control: Mapping[str, str], folder: Path) -> Path:
    root = folder / f"{one.name}-root"
    for path, (package, source) in one.files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / package / source, root / path)
    scripts = root / "DEBIAN"
    scripts.mkdir()
    (scripts / "control").write_text("".join(f"{name}: {value}\n" for name, value in control.items()))
    if one.postinst:
        (scripts / "postinst").write_text(one.postinst)
        (scripts / "postinst").chmod(0o755)
    version = one.version.partition(":")[2] or one.version
    made = folder / f"{one.name}_{version}_amd64.deb"
    # Level 1: these packages travel over loopback, once.
    words = ["dpkg-deb", "--root-owner-group", "-Zzstd", "-z1", "--build"]
    subprocess.run([*words, root, made], check=True, stdout=subprocess.DEVNULL)
    return made
