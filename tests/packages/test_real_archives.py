"""The real archives: Debian's as it is served now, Docker's from signed metadata that was kept."""

from __future__ import annotations

import lzma
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from dindkit.errors import RecipeError, TrustError
from dindkit.packages import keys, make_lock, release, solver
from dindkit.packages.download_cache import DownloadCache
from dindkit.packages.index import Package, PackageIndex
from dindkit.packages.keys import Keys
from dindkit.packages.lock import Row
from dindkit.packages.solver import Request
from dindkit.progress import Progress
from dindkit.project import Project
from tests.support.apt import Apt

HERE = Project.here()
KEPT = HERE.root.parent / "shared" / "docker-apt"
QUIET = Progress(quiet=True)

BASE = ["apt", "ca-certificates"]
DIND = [
    "docker.io", "docker-cli", "docker-buildx", "docker-compose", "git", "openssl", "xz-utils", "pigz",
    "iptables", "iproute2", "curl", "wget", "kmod", "e2fsprogs", "xfsprogs", "btrfs-progs",
    "openssh-client", "bash", "tini",
]  # fmt: skip

kept = pytest.mark.skipif(not KEPT.is_dir(), reason=f"Docker's kept metadata is not at {KEPT}")


@pytest.fixture(scope="module")
def pinned() -> Keys:
    return keys.load(HERE.keys)


def _controls(found: make_lock.FetchedIndexes, rows: Iterable[Row]) -> list[Mapping[str, str]]:
    return [
        next(one for one in found.package_index.versions(row.name) if one.version == row.version).control
        for row in rows
    ]


def _versions(rows: Iterable[Row]) -> dict[str, str]:
    return {row.name: row.version for row in rows}


@pytest.mark.archive
def test_debian_closure_equals_apt(pinned: Keys, tmp_path: Path) -> None:
    """A base image, then what the engine adds to it: both are what apt would install."""
    found = make_lock.fetch_indexes(pinned, DownloadCache(HERE.cache), "trixie", "amd64", QUIET)
    base = make_lock.make(found, [Request(name) for name in BASE], image="base")
    dind = make_lock.make(found, [Request(name) for name in DIND], image="dind", parent_rows=base.rows)

    archives = [pinned.archive(name) for name in ("debian", "debian-security")]
    entries = "\n".join(one.sources("trixie", str(one.keys[0].file)) for one in archives)
    essential = [row.name for row in base.rows if row.why == "essential"]
    apt = Apt(tmp_path / "apt", entries)
    assert _versions(base.rows) == apt.install(*essential, *BASE)
    assert _versions(dind.rows) == apt.install(*DIND, above=_controls(found, base.rows))


@kept
@pytest.mark.parametrize("name", ["jammy_InRelease", "bookworm_InRelease"])
def test_docker_signature_is_good_under_the_vendored_key(pinned: Keys, name: str) -> None:
    docker = pinned.archive("docker")
    suite = name.partition("_")[0]
    found = release.verify((KEPT / name).read_bytes(), pinned, docker, suite, QUIET)
    assert found.record.signer == "9DC858229FC7DD38854AE2D88D81803C0EBFCD88"
    assert found.files["stable/binary-amd64/Packages"].size > 0


@kept
def test_docker_metadata_is_not_good_under_debians_keys(pinned: Keys) -> None:
    with pytest.raises(TrustError, match="not signed by a key pinned for it"):
        release.verify(
            (KEPT / "jammy_InRelease").read_bytes(), pinned, pinned.archive("debian"), "jammy", QUIET
        )


@pytest.fixture(scope="module")
def jammy_index(pinned: Keys) -> str:
    """Docker's index for Ubuntu, held to the hash in the InRelease that Docker signed."""
    if not KEPT.is_dir():
        pytest.skip(f"Docker's kept metadata is not at {KEPT}")
    signed = release.verify(
        (KEPT / "jammy_InRelease").read_bytes(), pinned, pinned.archive("docker"), "jammy", QUIET
    )
    text = lzma.decompress((KEPT / "jammy_stable_binary-amd64_Packages.xz").read_bytes())
    return signed.content("stable", "amd64", text)


@pytest.fixture(scope="module")
def jammy(jammy_index: str) -> PackageIndex:
    package_index = PackageIndex("amd64")
    assert package_index.add(jammy_index, "docker") == 486
    return package_index


def test_every_docker_stanza_parses(jammy: PackageIndex, jammy_index: str) -> None:
    names = set(re.findall(r"^Package: (.+)$", jammy_index, re.MULTILINE))
    packages = [one for name in names for one in jammy.versions(name)]
    assert len(packages) == 486
    for one in packages:
        assert one.needs is not None
        assert one.refuses is not None
        assert {"Filename", "Size", "SHA256"} <= one.control.keys()


#: What docker-ce and its companions take from Ubuntu. Ubuntu's own index is not at hand, so these stand
#: in for it as packages that are there already: the solver then has to find all the rest in Docker's index.
UBUNTU = """
init-system-helpers 1.62
libc6 2.35-0ubuntu3.8
libnftables1 1.0.2-1ubuntu3
libseccomp2 2.5.3-2ubuntu2
libsystemd0 249.11-0ubuntu3
iptables 1.8.7-1ubuntu5
nftables 1.0.2-1ubuntu3
"""


def _ubuntu() -> list[Package]:
    lines = [line.split() for line in UBUNTU.split("\n") if line]
    return [
        Package({"Package": name, "Version": version, "Architecture": "amd64"}) for name, version in lines
    ]


def test_docker_solves_for_ubuntu_up_to_the_files(jammy: PackageIndex) -> None:
    wanted = ["docker-ce", "docker-ce-cli", "docker-buildx-plugin", "docker-compose-plugin"]
    requests = [Request(name, "docker") for name in wanted]
    chosen = solver.solve(jammy, requests, {"docker": True}, installed=_ubuntu())
    found = {one.package.name: (one.package.version.partition("~")[0], one.why) for one in chosen}
    assert found == {
        "docker-ce": ("5:29.5.3-1", "requested"),
        "docker-ce-cli": ("5:29.5.3-1", "requested"),
        "docker-buildx-plugin": ("0.34.1-1", "requested"),
        "docker-compose-plugin": ("5.1.4-1", "requested"),
        "containerd.io": ("2.2.4-1", "docker-ce"),
    }


def test_docker_without_ubuntu_says_what_is_lacking(jammy: PackageIndex) -> None:
    with pytest.raises(RecipeError, match=r"needs \S+.*, which no archive offers"):
        solver.solve(jammy, [Request("docker-ce", "docker")], {"docker": True})
