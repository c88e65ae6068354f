"""Archives and keys of a recipe outside images/: they add to those of dindkit, and replace none."""

from __future__ import annotations

from pathlib import Path

import pytest

from dindkit.errors import DindkitError, RecipeError, TrustError
from dindkit.image import build_options, recipe
from dindkit.packages import lock as locks
from tests.support.archive import ArchiveBuilder, KeyRing, serve
from tests.support.author import LOCK, RUNNER, TARGET, Author


def test_an_archive_of_ones_own(author: Author, key_ring: KeyRing, tmp_path: Path) -> None:
    mine = ArchiveBuilder(tmp_path / "mine", key_ring, key_ring.make("Mine"))
    mine.add_deb("mytool", "1.0", files={"usr/bin/mytool": "#!/bin/sh\n"})
    mine.publish("stable", architecture=TARGET)
    path = author.write("my-runner", 'parent = "base"\npackages = ["mytool"]\n')
    with pytest.raises(DindkitError, match="mytool"):
        author.lock(path)
    with serve(mine.folder) as server:
        write_keys(path, key_ring, mine, server.url)
        author.lock(path)
        author.build(path)
    (row,) = locks.read(Path(path, LOCK)).rows
    assert (row.name, row.archive) == ("mytool", "mine")
    above = author.write("above", 'parent = "../my-runner"\n')
    assert (
        "mine" in build_options.load_keys(author.project, recipe.with_parents(author.project, above)).archives
    )


def write_keys(
    path: str, ring: KeyRing, archive: ArchiveBuilder, url: str, name: str = "mine", file: str = "mine.asc"
) -> None:
    folder = Path(path, "keys")
    folder.mkdir(exist_ok=True)
    fingerprint = archive.signers[0].rstrip("!")
    (folder / file).write_bytes(ring.public(fingerprint))
    (folder / "archives.toml").write_text(
        f'[archives.{name}]\nuris = ["{url}"]\nsnapshot = ""\nsuites = {{ trixie = ["stable"] }}\n'
        f'components = ["main"]\nkeys = ["{file}"]\n'
        f'[keys."{file}"]\nfingerprint = "{fingerprint}"\nprovenance = "made by the test"\n'
    )


@pytest.mark.parametrize(
    ("name", "file", "said"),
    [
        (
            "debian",
            "mine.asc",
            "says anew what the archive debian is, which .*project/keys/arch",
        ),
        ("mine", "debian.asc", "says anew what the key debian.asc is"),
    ],
)
def test_a_pin_of_dindkits_is_not_replaced(
    author: Author, key_ring: KeyRing, tmp_path: Path, name: str, file: str, said: str
) -> None:
    mine = ArchiveBuilder(tmp_path / "mine", key_ring, key_ring.make("Mallory"))
    path = author.write("my-runner", RUNNER)
    author.lock(path)
    write_keys(path, key_ring, mine, "http://localhost:1", name, file)
    for command in (author.lock, author.build):
        with pytest.raises(TrustError, match=said):
            command(path)


def test_a_pin_of_ones_own_holds(author: Author, key_ring: KeyRing, tmp_path: Path) -> None:
    mine = ArchiveBuilder(tmp_path / "mine", key_ring, key_ring.make("Mine"))
    path = author.write("my-runner", RUNNER)
    write_keys(path, key_ring, mine, "http://localhost:1")
    Path(path, "keys/mine.asc").write_bytes(key_ring.public(key_ring.make("Mallory")))
    with pytest.raises(TrustError, match="is pinned for it"):
        author.lock(path)
    text = Path(path, "keys/archives.toml").read_text()
    for change, said in (
        (("mine.asc", "../mine.asc"), "is not the name of a file beside it"),
        (
            ("fingerprint", "fingerprnt"),
            r"keys.mine.asc.fingerprnt is not a key of archives.toml. Did you",
        ),
        (('snapshot = ""\n', ""), "cannot be read: 'snapshot' is missing"),
        (("archives.mine", 'archives."a b"'), "'a b' is no name for an archive"),
        (('keys = ["mine.asc"]', 'keys = ["nix.asc"]'), "cannot be read: 'nix.asc' is missing"),
    ):
        Path(path, "keys/archives.toml").write_text(text.replace(*change))
        with pytest.raises(RecipeError, match=said):
            author.lock(path)
    Path(path, "keys/archives.toml").unlink()
    Path(path, "keys/archives.toml").symlink_to("nowhere")
    with pytest.raises(RecipeError, match="cannot be read"):
        author.lock(path)
