"""`lock --seal --all`: the ids of every committed lock, of all suites and architectures."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace

import pytest

from dindkit.errors import DindkitError
from dindkit.image import lock_verb, locking, seal
from dindkit.image.build_options import BuildOptions
from dindkit.packages import lock as locks
from dindkit.progress import Progress
from tests.support.archive import KeyRing
from tests.support.local_project import LocalProject
from tests.support.tiny_project import tiny_project

TARGET = BuildOptions().target


@pytest.fixture(scope="module")
def two_suites(key_ring: KeyRing, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalProject]:
    """Give two images, locked for two suites, and one more lock that no machine here can build from."""
    with tiny_project(tmp_path_factory.mktemp("suites"), key_ring) as made:
        pins = made.project.keys / "archives.toml"
        pins.write_text(pins.read_text().replace('["trixie"] }', '["trixie"], forky = ["forky"] }'))
        lock_forky(made)
        base = made.project.images / "base"
        foreign = replace(locks.read(base / f"trixie-{TARGET}.lock"), architecture="mips64el")
        locks.write(foreign, base / "trixie-mips64el.lock")
        yield made


def lock_forky(project: LocalProject) -> None:
    project.archive.publish("forky", architecture=TARGET)
    locking.lock(project.project, BuildOptions("app", suite="forky"), Progress(project.said))


def sealed(project: LocalProject) -> dict[str, bool]:
    """Tell of each lock whether it names ids."""
    paths = sorted(project.project.images.glob("*/*.lock"))
    return {f"{path.parent.name}/{path.stem}": locks.read(path).expected is not None for path in paths}


def test_each_lock_gets_its_ids_and_what_cannot_run_here_is_named(two_suites: LocalProject) -> None:
    said = io.StringIO()
    assert not any(sealed(two_suites).values())
    changed = seal.seal_all(two_suites.project, Progress(said))
    native = {f"{image}/{suite}-{TARGET}" for image in ("app", "base") for suite in ("forky", "trixie")}
    assert sealed(two_suites) == {**dict.fromkeys(native, True), "base/trixie-mips64el": False}
    assert {f"{one.path.parent.name}/{one.path.stem}" for one in changed if one.written} == native
    lines = said.getvalue().splitlines()
    assert lines[-1] == "4 of 5 locks are sealed, 4 with other ids than before."
    assert f"seal app/trixie-{TARGET}.lock (2 of 5)" in lines
    (warning,) = (line for line in lines if line.startswith("warning"))
    assert warning.startswith(
        "warning: Locks for mips64el are left as they are. This machine does not run programs of mips64el"
    )

    again = io.StringIO()
    assert not any(one.written for one in seal.seal_all(two_suites.project, Progress(again)))
    assert again.getvalue().splitlines()[-1] == "4 of 5 locks are sealed, 0 with other ids than before."


def test_one_that_cannot_be_built_keeps_no_other_from_it(two_suites: LocalProject) -> None:
    two_suites.archive.add_deb("greeter", "2.0", files={"usr/bin/greet": "#!/bin/sh\n"})
    lock_forky(two_suites)
    (two_suites.archive.folder / two_suites.archive.stanzas[-1]["Filename"]).unlink()
    path = two_suites.project.images / f"base/trixie-{TARGET}.lock"
    locks.write(replace(locks.read(path), expected=None), path)
    said = io.StringIO()
    with pytest.raises(DindkitError, match=rf"^Not sealed: app/forky-{TARGET}\.lock\. See above"):
        seal.seal_all(two_suites.project, Progress(said))
    assert f"warning: app/forky-{TARGET}.lock is left as it is. " in said.getvalue()
    assert "greeter" in said.getvalue()
    now = sealed(two_suites)
    assert now[f"base/trixie-{TARGET}"]
    assert now[f"app/trixie-{TARGET}"]
    assert not now[f"app/forky-{TARGET}"]


def test_all_is_for_sealing(two_suites: LocalProject) -> None:
    with pytest.raises(DindkitError, match="--all is for --seal"):
        lock_verb.run(two_suites.project, BuildOptions("app"), Progress(quiet=True), {}, all_locks=True)
