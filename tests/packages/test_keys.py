"""Keys: what is pinned is what is trusted, and nothing else."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from dindkit.errors import RecipeError, TrustError
from dindkit.packages import keys
from dindkit.packages.keys import Signed
from dindkit.project import Project
from tests.support.archive import ArchiveBuilder, KeyRing, Pin, make_project

TEXT = b"Suite: trixie\n- dashed\nDate: now\n"
UNREACHED = "http://127.0.0.1:1"

#: Long enough ago that a key with a day to live is dead.
LONG_AGO = "20240101T000000"


def verify(tmp_path: Path, key_ring: KeyRing, data: bytes, pinned: str, key: bytes = b"") -> Signed:
    archive = ArchiveBuilder(tmp_path / "archive", key_ring, pinned)
    project = make_project(tmp_path / "project", Pin("debian", archive, UNREACHED, key=key))
    loaded = keys.load(project.keys)
    return loaded.verify(data, loaded.archive("debian"))


def test_signed_text_is_what_gpg_gives_back(tmp_path: Path, key_ring: KeyRing, signer: str) -> None:
    signed = verify(tmp_path, key_ring, key_ring.clear_sign(TEXT, signer), signer)
    assert signed == Signed(TEXT, signer)


def test_subkey_stands_for_its_primary(tmp_path: Path, key_ring: KeyRing) -> None:
    primary = key_ring.make()
    subkey = key_ring.add_subkey(primary)
    assert verify(tmp_path, key_ring, key_ring.clear_sign(TEXT, f"{subkey}!"), primary).fingerprint == primary


def test_unknown_signature_beside_a_good_one_is_fine(tmp_path: Path, key_ring: KeyRing, signer: str) -> None:
    data = key_ring.clear_sign(TEXT, key_ring.make("Newer Key"), signer)
    assert verify(tmp_path, key_ring, data, signer).fingerprint == signer


def test_unpinned_key_is_refused(tmp_path: Path, key_ring: KeyRing, signer: str) -> None:
    with pytest.raises(TrustError, match=f"not signed by a key pinned.*{signer}"):
        verify(tmp_path, key_ring, key_ring.clear_sign(TEXT, key_ring.make("Mallory")), signer)


@pytest.mark.parametrize("where", ["text", "signature"])
def test_flipped_byte_is_refused(tmp_path: Path, key_ring: KeyRing, signer: str, where: str) -> None:
    data = key_ring.clear_sign(TEXT, signer)
    flipped = data.replace(b"now", b"nox") if where == "text" else _flip(data, data.index(b"\n=") - 20)
    with pytest.raises(TrustError, match=r"not signed by a key pinned"):
        verify(tmp_path, key_ring, flipped, signer)


def _flip(data: bytes, position: int) -> bytes:
    return data[:position] + (b"A" if data[position : position + 1] != b"A" else b"B") + data[position + 1 :]


@pytest.mark.parametrize(
    "frame",
    [
        b"Suite: evil\n\n%s",
        b"\n%s",
        b"%sSuite: evil\n",
        b"%s%s",
    ],
    ids=["before", "blank line before", "after", "twice"],
)
def test_text_around_the_signed_part_is_refused(
    tmp_path: Path, key_ring: KeyRing, signer: str, frame: bytes
) -> None:
    data = frame.replace(b"%s", key_ring.clear_sign(TEXT, signer))
    with pytest.raises(TrustError, match="not one clear-signed text"):
        verify(tmp_path, key_ring, data, signer)


def test_text_between_the_parts_is_refused(tmp_path: Path, key_ring: KeyRing, signer: str) -> None:
    data = key_ring.clear_sign(TEXT, signer)
    for mark in (b"-----BEGIN PGP SIGNATURE-----", b"Hash: "):
        with pytest.raises(TrustError):
            verify(tmp_path, key_ring, data.replace(mark, b"Suite: evil\n" + mark), signer)


def test_unsigned_text_is_refused(tmp_path: Path, key_ring: KeyRing, signer: str) -> None:
    with pytest.raises(TrustError, match="not one clear-signed text"):
        verify(tmp_path, key_ring, TEXT, signer)


def test_weak_digest_is_refused(tmp_path: Path, key_ring: KeyRing, signer: str) -> None:
    with pytest.raises(TrustError, match="weak digest"):
        verify(tmp_path, key_ring, key_ring.clear_sign(TEXT, signer, digest="SHA1"), signer)


def test_expired_key_is_refused(tmp_path: Path, key_ring: KeyRing) -> None:
    expired = key_ring.make(created=LONG_AGO, expires="1d")
    with pytest.raises(TrustError, match="has expired"):
        verify(tmp_path, key_ring, key_ring.clear_sign(TEXT, expired, when=LONG_AGO), expired)


def test_revoked_key_is_refused(tmp_path: Path, key_ring: KeyRing) -> None:
    revoked = key_ring.make()
    data = key_ring.clear_sign(TEXT, revoked)
    key_ring.revoke(revoked)
    with pytest.raises(TrustError, match="is revoked"):
        verify(tmp_path, key_ring, data, revoked)


def test_subkey_that_the_primary_does_not_bind_is_refused(
    tmp_path: Path, key_ring: KeyRing, signer: str
) -> None:
    """The key file has the pinned primary, and behind it a stranger's subkey with the stranger's binding."""
    stranger = key_ring.make("Mallory")
    subkey = key_ring.add_subkey(stranger)
    theirs = _packets(key_ring.public(stranger, armour=False))
    tags = [_tag(packet) for packet in theirs]
    grafted = key_ring.public(signer, armour=False) + b"".join(theirs[tags.index(14) :])
    with pytest.raises(TrustError, match="not signed by a key pinned"):
        verify(tmp_path, key_ring, key_ring.clear_sign(TEXT, f"{subkey}!"), signer, key=grafted)


def _tag(packet: bytes) -> int:
    return (packet[0] >> 2) & 15


def _packets(data: bytes) -> list[bytes]:
    """Split a key into its packets (RFC 9580 §4.2.2, the legacy format that gpg writes)."""
    packets = []
    while data:
        octets = 1 << (data[0] & 3)
        length = 1 + octets + int.from_bytes(data[1 : 1 + octets], "big")
        packets.append(data[:length])
        data = data[length:]
    return packets


def test_swapped_key_file_stops_with_both_fingerprints(
    tmp_path: Path, key_ring: KeyRing, signer: str
) -> None:
    other = key_ring.make("Mallory")
    with pytest.raises(TrustError, match=f"{other}.*{signer}"):
        verify(tmp_path, key_ring, b"", signer, key=key_ring.public(other))


def test_key_file_swapped_while_we_run(tmp_path: Path, key_ring: KeyRing, signer: str) -> None:
    project = make_project(
        tmp_path / "project", Pin("debian", ArchiveBuilder(tmp_path, key_ring, signer), UNREACHED)
    )
    loaded = keys.load(project.keys)
    mallory = key_ring.make("Mallory")
    (project.keys / "debian.asc").write_bytes(key_ring.public(mallory))
    with pytest.raises(TrustError, match="not signed by a key pinned"):
        loaded.verify(key_ring.clear_sign(TEXT, mallory), loaded.archive("debian"))


def test_second_key_in_a_key_file_stops(tmp_path: Path, key_ring: KeyRing, signer: str) -> None:
    both = key_ring.public(signer, armour=False) + key_ring.public(key_ring.make("Mallory"), armour=False)
    with pytest.raises(TrustError, match="is pinned for it"):
        verify(tmp_path, key_ring, b"", signer, key=both)


@pytest.mark.parametrize("value", ["1" * 5000, "[" * 500 + "]" * 500])
def test_a_table_that_python_cannot_hold(tmp_path: Path, value: str) -> None:
    (tmp_path / "archives.toml").write_text(f"a = {value}\n")
    with pytest.raises(RecipeError, match="cannot be read"):
        keys.load(tmp_path)


def test_missing_key_file_stops(tmp_path: Path, key_ring: KeyRing, signer: str) -> None:
    project = make_project(
        tmp_path / "project", Pin("debian", ArchiveBuilder(tmp_path, key_ring, signer), UNREACHED)
    )
    (project.keys / "debian.asc").unlink()
    with pytest.raises(TrustError, match="is missing"):
        keys.load(project.keys)


def test_key_of_one_archive_does_not_sign_another(tmp_path: Path, key_ring: KeyRing, signer: str) -> None:
    other = key_ring.make("Other Archive")
    project = make_project(
        tmp_path / "project",
        Pin("debian", ArchiveBuilder(tmp_path / "a", key_ring, signer), UNREACHED),
        Pin("docker", ArchiveBuilder(tmp_path / "b", key_ring, other), UNREACHED),
    )
    loaded = keys.load(project.keys)
    data = key_ring.clear_sign(TEXT, other)
    assert loaded.verify(data, loaded.archive("docker")).fingerprint == other
    with pytest.raises(TrustError, match="not signed by a key pinned"):
        loaded.verify(data, loaded.archive("debian"))


def test_nothing_stays_behind(
    tmp_path: Path, key_ring: KeyRing, signer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    homes = tmp_path / "homes"
    homes.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(homes))
    verify(tmp_path, key_ring, key_ring.clear_sign(TEXT, signer), signer)
    assert not list(homes.iterdir())
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(homes) not in running


def test_vendored_keys_are_the_pinned_ones() -> None:
    loaded = keys.load(Project.here().keys)
    assert {"debian", "debian-security", "docker"} <= loaded.archives.keys()
    for archive in loaded.archives.values():
        assert all(key.provenance and len(key.fingerprint) == 40 for key in archive.keys)
        assert "trixie" in archive.suites
        entry = archive.sources("trixie", "/usr/share/keyrings/x.gpg")
        assert f"Suites: {' '.join(archive.suites['trixie'])}\n" in entry
