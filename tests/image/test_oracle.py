"""The oracle: for the same packages our tree is mmdebstrap's, path by path, but for what is listed here."""

from __future__ import annotations

import fnmatch
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from dindkit.formats import compare
from dindkit.formats.contents import ContentStore
from dindkit.formats.tree import Tree, read_tar
from dindkit.image.build import Built
from dindkit.image.build_inputs import BuildInputs
from dindkit.image.build_options import BuildOptions, resolve
from dindkit.image.built import opened
from dindkit.packages.download_cache import DownloadCache
from dindkit.progress import Progress
from dindkit.project import Project
from tests.support.archive import ArchiveBuilder, KeyRing

#: Path pattern -> why the two trees differ there.
REASONS = {
    # What mmdebstrap leaves for a machine that boots, and an engine gives each container anew.
    "dev/*": "mmdebstrap makes device nodes; a container gets its own",
    "etc/fstab": "mmdebstrap writes an empty one; a container mounts nothing by itself",
    "etc/hostname": "the building host's",
    "etc/hosts": "the building host's",
    "etc/resolv.conf": "the building host's",
    # mmdebstrap's own configuration, and ours.
    "etc/apt/apt.conf.d/99mmdebstrap": "mmdebstrap's own options",
    "etc/apt/sources.list": "mmdebstrap names the archive of the test",
    "etc/apt/sources.list.d/debian.sources": "ours names the signed archives",
    "etc/dpkg/dpkg.cfg.d/99mmdebstrap": "the same rules under mmdebstrap's name",
    "etc/dpkg/dpkg.cfg.d/dindkit-*": "the same rules under our name",
    "usr/sbin/policy-rc.d": "stays in ours: installing a package in a container starts no daemon",
    # Caches, locks and backups, which no two builds have alike.
    "etc/.pwd.lock": "a lock",
    "etc/group-": "a backup",
    "etc/gshadow-": "a backup",
    "etc/passwd-": "a backup",
    "etc/shadow-": "a backup",
    "etc/subgid-": "a backup",
    "etc/subuid-": "a backup",
    "*/__pycache__": "compiled by Python when it is needed, with times inside",
    "*/__pycache__/*": "compiled by Python when it is needed, with times inside",
    "var/cache/apt/archives/lock": "a lock",
    "var/cache/debconf/*-old": "a backup",
    "var/cache/debconf/tmp.ci": "the empty folder of a preconfiguration that apt ran",
    "var/cache/ldconfig/aux-cache": "has inode numbers in it",
    "var/lib/apt/lists/lock": "a lock",
    "var/lib/dpkg/*-old": "a backup",
    "var/lib/dpkg/arch": "mmdebstrap's --add-architecture",
    "var/lib/dpkg/lock": "a lock",
    "var/lib/dpkg/lock-frontend": "a lock",
    "var/lib/dpkg/triggers/Lock": "a lock",
    "var/log/*": "a log",
    # Owner and mode that apt sets when it runs as root for the first time.
    "var/cache/apt/archives/partial": "apt gives it to _apt when it downloads",
    "var/lib/apt/lists/partial": "apt gives it to _apt when it downloads",
    # The same lines in another order; the content is compared below.
    "etc/shells": "sorted in ours",
    "var/lib/dpkg/triggers/File": "sorted in ours",
    "etc/shadow": "the day of the build in field 3; the lock's in ours",
    # mmdebstrap asks apt for all packages by name, so that it takes none for automatic.
    "var/lib/apt/extended_states": "which packages are automatic is knowledge of the lock",
}


def archive_of(inputs: BuildInputs, store: DownloadCache, folder: Path) -> Path:
    """Make an archive of exactly the image's packages."""
    key_ring = KeyRing()
    made = ArchiveBuilder(folder / "archive", key_ring, key_ring.make())
    for row in inputs.rows:
        made.add_row(row, store.path(row.sha256))
    made.publish("trixie", architecture=inputs.lock.architecture)
    key_ring.close()
    return made.folder


def accounts_hook(inputs: BuildInputs) -> list[str]:
    """Say to mmdebstrap what the recipe says of users and groups."""
    recipe = inputs.recipe
    groups = sorted(recipe.groups.items(), key=lambda one: one[1])
    groups += [(name, user.gid) for name, user in sorted(recipe.users.items()) if name not in recipe.groups]
    lines = [f'echo "{name}:*:{gid}:" >>"$1/etc/group"' for name, gid in groups]
    for name, user in recipe.users.items():
        first, count = user.subids
        lines += [
            f'echo "{name}:*:{user.uid}:{user.gid}::{user.home}:{user.shell}" >>"$1/etc/passwd"',
            f'echo "{name}:{first}:{count}" | tee -a "$1/etc/subuid" >>"$1/etc/subgid"',
        ]
    return ["--essential-hook=" + "; ".join(lines)] if lines else []


def mmdebstrap(chain: list[BuildInputs], archive: Path, output: Path) -> None:
    rules = []
    for inputs in chain:
        exclude = (*inputs.recipe.slim.exclude, *inputs.engine.exclude)
        rules += [f"--dpkgopt=path-exclude={pattern}" for pattern in exclude]
        rules += [f"--dpkgopt=path-include={pattern}" for pattern in inputs.recipe.slim.include]
    include = [name for inputs in chain[1:] for name in inputs.requested]
    hooks = [hook for inputs in chain for hook in accounts_hook(inputs)]
    subprocess.run(
        [
            "mmdebstrap",
            "--variant=apt",
            "--mode=root" if os.geteuid() == 0 else "--mode=unshare",
            f"--architectures={chain[0].lock.architecture}",
            '--aptopt=APT::Install-Recommends "false"',
            *rules,
            *([f"--include={','.join(include)}"] if include else []),
            *hooks,
            "trixie",
            str(output),
            f"deb [trusted=yes] copy:{archive} trixie main",
        ],
        check=True,
        capture_output=True,
    )


def own_files(chain: list[BuildInputs]) -> set[str]:
    """Return every path that the recipes put there themselves, with its parents."""
    paths: set[str] = set()
    for inputs in chain:
        recipe = inputs.recipe
        rootfs = (one.relative_to(recipe.rootfs).as_posix() for one in recipe.rootfs.rglob("*"))
        for path in (*rootfs, *recipe.folders, *recipe.links, *inputs.engine.links):
            paths.update({path, *(str(parent) for parent in Path(path).parents)})
    return paths


@pytest.mark.parametrize("name", ["base", pytest.param("dind", marks=pytest.mark.full)])
def test_the_tree_is_mmdebstraps(
    name: str, base: Built, dind: Built, project: Project, progress: Progress, tmp_path: Path
) -> None:
    built: Mapping[str, Built] = {"base": base, "dind": dind}
    chain = resolve(project, BuildOptions(image=name))
    archive = archive_of(chain[-1], DownloadCache(project.cache), tmp_path)
    mmdebstrap(chain, archive, tmp_path / "oracle.tar")
    contents = ContentStore(tmp_path)
    with opened(built[name]) as image, (tmp_path / "oracle.tar").open("rb") as file:
        ours, theirs = image.tree(contents), Tree(contents, read_tar(file, contents))
    theirs.sort_names()  # which of a file's names is called the link depends on who walks the tree
    own = own_files(chain)
    unexplained = [
        str(difference)
        for difference in compare.entries(theirs.entries.values(), ours.entries.values(), times=False)
        if difference.path not in own
        and not any(fnmatch.fnmatchcase(difference.path, pattern) for pattern in REASONS)
    ]
    assert unexplained == []
    for path in ("etc/shells", "var/lib/dpkg/triggers/File"):
        assert sorted(ours.text(path).splitlines()) == sorted(theirs.text(path).splitlines())
    for one, other in zip(
        ours.text("etc/shadow").splitlines(), theirs.text("etc/shadow").splitlines(), strict=True
    ):
        assert one.split(":")[:2] + one.split(":")[3:] == other.split(":")[:2] + other.split(":")[3:]
    status = [tree.text("var/lib/dpkg/status").split("\n\n") for tree in (ours, theirs)]
    assert status[0] == status[1]
    contents.close()
