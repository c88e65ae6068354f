"""Debian's kernels, from the committed locks: what a machine needs of them is there."""

from __future__ import annotations

import io
import re
import struct
from pathlib import Path

import pytest

from dindkit.errors import TrustError
from dindkit.image.build_options import BuildOptions
from dindkit.packages.download_cache import DownloadCache
from dindkit.progress import Progress
from dindkit.project import Project
from dindkit.vm import kernel, modules

pytestmark = pytest.mark.archive

#: What containers and Docker's networks ask for.
ASKED = {"bridge", "br_netfilter", "veth", "nf_tables", "nft_compat", "ip_tables", "xt_MASQUERADE", "vxlan"}


def names(paths: list[str]) -> list[str]:
    return [modules.name_of(path) for path in paths if modules.name_of(path)]


@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
def test_a_locked_kernel_can_be_booted_and_has_its_modules(
    project: Project, tmp_path: Path, architecture: str, pytestconfig: pytest.Config
) -> None:
    suite = pytestconfig.getoption("--suite")
    options = BuildOptions(suite=suite, architecture=architecture)
    found = kernel.fetch(project, options, tmp_path / "package", Progress(io.StringIO()))
    # https://docs.kernel.org/arch/x86/boot.html, https://docs.kernel.org/arch/arm64/booting.html
    offset, magic = {"amd64": (0x202, b"HdrS"), "arm64": (56, b"ARM\x64")}[architecture]
    assert found.image[offset : offset + 4] == magic
    assert re.fullmatch(rf"[67]\.[0-9]+\..*-cloud-{architecture}", found.release)
    early, all_names = names(list(found.early)), names(list(found.files))
    assert set(modules.EARLY) <= set(early)
    assert set(all_names) >= ASKED | {"overlay", "erofs"}
    for content in (found.early, found.files):
        before: set[str] = set()
        for path, data in content.items():
            name = modules.name_of(path)
            if name:
                needed, _ = modules.needs(data, name)
                assert {one for one in needed if one in all_names} <= before
                assert struct.unpack_from("<H", data, 18) == ({"amd64": 62, "arm64": 183}[architecture],)
                before.add(name)
    folder = f"usr/lib/modules/{found.release}/"
    assert all(path.startswith(folder) for path in found.files)
    assert f"{folder}modules.builtin" in found.files


def test_a_kernel_that_was_changed_is_refused(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = BuildOptions(architecture="arm64")
    held = DownloadCache.fetch

    def fetch(self: DownloadCache, rows, keys, progress, snapshots, arrived):  # type: ignore[no-untyped-def]
        """Swap a byte between the download and the check, as one who may write to the cache could."""
        for row, path in held(self, rows, keys, progress, snapshots).items():
            data = bytearray(path.read_bytes())
            data[-1] ^= 1
            (tmp_path / row.sha256).write_bytes(data)
            arrived(row, tmp_path / row.sha256)

    monkeypatch.setattr(DownloadCache, "fetch", fetch)
    with pytest.raises(TrustError, match="was changed after it was downloaded"):
        kernel.fetch(project, options, tmp_path / "package", Progress(io.StringIO()))
