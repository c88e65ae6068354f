"""The lock of a kernel names one, the newest of the suite, and nothing that it would need to be installed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest

from dindkit.errors import RecipeError, TrustError
from dindkit.image.build_options import BuildOptions
from dindkit.packages import lock as locks
from dindkit.progress import Progress
from dindkit.project import Project
from dindkit.vm import kernel_lock
from tests.support.archive import ArchiveBuilder, KeyRing, Pin, make_project, serve

OPTIONS = BuildOptions(architecture="arm64")


@dataclass
class Kernels:
    """An archive with kernels, and a project that trusts it."""

    archive: ArchiveBuilder
    project: Project

    def add(self, version: str, release: str) -> None:
        kernel = f"linux-image-{release}-cloud-arm64"
        needs = "kmod, initramfs-tools | linux-initramfs-tool"
        self.archive.add_deb(kernel, version, architecture="arm64", depends=needs)
        alias = f"{kernel} (= {version})"
        self.archive.add_deb("linux-image-cloud-arm64", version, architecture="arm64", depends=alias)

    def lock(self, **words: bool) -> list[str]:
        change = kernel_lock.lock(self.project, OPTIONS, Progress(StringIO()), **words)
        return change.lines()

    def locked(self) -> dict[str, str]:
        return {row.name: row.version for row in kernel_lock.read(self.project, OPTIONS).rows}


@pytest.fixture
def kernels(tmp_path: Path, key_ring: KeyRing) -> Iterator[Kernels]:
    archive = ArchiveBuilder(tmp_path / "archive", key_ring, key_ring.make())
    with serve(archive.folder) as server:
        yield Kernels(archive, make_project(tmp_path / "project", Pin("debian", archive, server.url)))


def test_the_newest_kernel_is_locked_alone(kernels: Kernels) -> None:
    kernels.add("6.12.1-1", "6.12.1")
    kernels.add("6.12.20-1", "6.12.20")
    kernels.archive.publish("trixie", architecture="arm64")
    kernels.lock()
    assert kernels.locked() == {
        "linux-image-6.12.20-cloud-arm64": "6.12.20-1",
        "linux-image-cloud-arm64": "6.12.20-1",
    }
    assert kernels.lock() == ["trixie-arm64.lock of kernel: nothing has changed."]


def test_a_kernel_in_parts_is_locked_whole(kernels: Kernels) -> None:
    base, image = "linux-base-7.2.1-cloud-arm64", "linux-image-7.2.1-cloud-arm64"
    parts = [f"linux-{part}-7.2.1-cloud-arm64" for part in ("binary", "modules")]
    needs = {
        "linux-image-cloud-arm64": f"linux-base-cloud-arm64 (= 7.2.1-1), {image} (= 7.2.1-1)",
        "linux-base-cloud-arm64": f"{base} (= 7.2.1-1)",
        image: f"dracut | initramfs-tools, {base} (= 7.2.1-1), {', '.join(parts)}",
        base: "",
        parts[0]: f"{base} (= 7.2.1-1)",
        parts[1]: f"kmod, {base} (= 7.2.1-1)",
    }
    for name, depends in needs.items():
        kernels.archive.add_deb(name, "7.2.1-1", architecture="arm64", depends=depends)
    kernels.archive.add_deb("kmod", "34-1", architecture="arm64")
    kernels.archive.publish("trixie", architecture="arm64")
    kernels.lock()
    assert set(kernels.locked()) == set(needs)


def test_an_older_kernel_is_a_question(kernels: Kernels) -> None:
    kernels.add("6.12.20-1", "6.12.20")
    kernels.archive.publish("trixie", architecture="arm64")
    kernels.lock()
    before = kernel_lock.path(kernels.project, OPTIONS).read_bytes()
    kernels.archive.stanzas.clear()
    kernels.add("6.12.1-1", "6.12.1")
    kernels.archive.publish("trixie", architecture="arm64")
    with pytest.raises(TrustError, match="older versions than the lock has: downgraded linux-image-cloud"):
        kernels.lock()
    assert kernel_lock.path(kernels.project, OPTIONS).read_bytes() == before
    kernels.lock(allow_downgrade=True)
    assert kernels.locked()["linux-image-cloud-arm64"] == "6.12.1-1"


def test_an_archive_without_the_kernel_is_named(kernels: Kernels) -> None:
    kernels.archive.add_deb(
        "linux-image-cloud-arm64", architecture="arm64", depends="linux-image-6.12.1-cloud-arm64"
    )
    kernels.archive.publish("trixie", architecture="arm64")
    with pytest.raises(RecipeError, match="no package linux-image-cloud-arm64 in debian, or not its kernel"):
        kernels.lock()
    assert not kernel_lock.path(kernels.project, OPTIONS).exists()


def test_a_missing_lock_says_what_to_run(kernels: Kernels) -> None:
    with pytest.raises(RecipeError) as caught:
        kernel_lock.read(kernels.project, OPTIONS)
    assert caught.value.next_step == "Run: invoke lock --kernel --suite trixie --arch arm64"


def test_another_lock_is_not_a_kernels(kernels: Kernels) -> None:
    kernels.add("6.12.1-1", "6.12.1")
    kernels.archive.publish("trixie", architecture="arm64")
    kernels.lock()
    other = BuildOptions(architecture="amd64")
    kernel_lock.path(kernels.project, OPTIONS).rename(kernel_lock.path(kernels.project, other))
    with pytest.raises(RecipeError, match=r"trixie-amd64\.lock is not the lock of that kernel"):
        kernel_lock.read(kernels.project, other)
    assert locks.read(kernel_lock.path(kernels.project, other)).architecture == "arm64"
