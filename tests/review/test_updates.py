"""Newer versions in signed archives: which count, in which order, and what stops the question."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from typing import Any

import pytest

from dindkit.errors import DindkitError, TrustError
from dindkit.image.build_inputs import BuildInputs
from dindkit.image.build_options import BuildOptions
from dindkit.review import audit, updates
from dindkit.review.report import Update
from tests.review.conftest import EPOCH, Scene


def locked(scene: Scene, sha256: str) -> list[BuildInputs]:
    """Return the chain with another hash for the package `tool`."""
    own = scene.chain[-1]
    rows = tuple(replace(one, sha256=sha256) if one.name == "tool" else one for one in own.lock.rows)
    return [scene.chain[0], replace(own, lock=replace(own.lock, rows=rows))]


def offer(scene: Scene, archive: str, name: str, version: str, date: float = EPOCH + 60) -> None:
    scene.archives[archive].add_deb(name, version, architecture="amd64")
    scene.archives[archive].publish("trixie-security" if "security" in archive else "trixie", date=date)


def test_nothing_newer(scene: Scene) -> None:
    offer(scene, "debian", "libc", "0.8")
    offer(scene, "debian-security", "libc", "0.9")
    assert updates.find(scene.project, scene.chain, scene.progress).updates == ()


def test_security_comes_first(scene: Scene) -> None:
    offer(scene, "debian", "apt", "1.1")
    offer(scene, "debian-security", "libc", "1.0+deb13u1")
    assert updates.find(scene.project, scene.chain, scene.progress).updates == (
        Update("libc", "1.0", "1.0+deb13u1", "debian-security", security=True),
        Update("apt", "1.0", "1.1", "debian", security=False),
    )


def test_a_security_update_hides_behind_no_newer_version(scene: Scene) -> None:
    offer(scene, "debian", "libc", "1.2")
    offer(scene, "debian-security", "libc", "1.1")
    (update,) = updates.find(scene.project, scene.chain, scene.progress).updates
    assert (update.available, update.archive, update.security) == ("1.2", "debian", True)


def test_archives_do_not_mix(scene: Scene) -> None:
    offer(scene, "docker", "libc", "9.0")
    offer(scene, "debian", "docker-ce", "9.0")
    assert updates.find(scene.project, scene.chain, scene.progress).updates == ()
    offer(scene, "docker", "docker-ce", "1.5")
    (update,) = updates.find(scene.project, scene.chain, scene.progress).updates
    assert (update.available, update.archive) == ("1.5", "docker")


def test_updates_cannot_be_hidden_by_an_old_index(scene: Scene) -> None:
    offer(scene, "debian-security", "libc", "1.0", date=EPOCH - 86400)
    with pytest.raises(TrustError, match="older than the one that the lock was made from"):
        updates.find(scene.project, scene.chain, scene.progress)


def test_a_locked_hash_is_confirmed_or_contradicted_by_the_signed_index(scene: Scene) -> None:
    offer(scene, "debian", "tool", "1.0")
    listed = scene.archives["debian"].stanzas[-1]["SHA256"]
    now = updates.find(scene.project, locked(scene, listed), scene.progress)
    assert now.confirmed == 1
    assert now.superseded == ("apt", "base-files", "docker-ce", "libc")
    with pytest.raises(TrustError, match=r"The lock has tool 1.0 .* but debian signs"):
        updates.find(scene.project, locked(scene, "f" * 64), scene.progress)


def test_exit_code_3_after_the_whole_report(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "resolve", lambda *_: scene.chain)
    monkeypatch.setattr(audit, "build", lambda *_: scene.built)
    offer(scene, "debian", "apt", "1.1")
    found: dict[str, Any] = {}
    audit.audit(scene.project, BuildOptions(), scene.progress, StringIO(), found=found, with_updates=True)
    assert [one["name"] for one in found["now"]["updates"]] == ["apt"]

    offer(scene, "debian-security", "libc", "1.0+deb13u1")
    with pytest.raises(DindkitError) as caught:
        audit.audit(scene.project, BuildOptions(), scene.progress, StringIO(), found=found, with_updates=True)
    assert caught.value.exit_code == 3
    assert str(caught.value) == "1 security update waiting: libc. Take them with: invoke lock"
    assert [one["name"] for one in found["now"]["updates"]] == ["libc", "apt"]
