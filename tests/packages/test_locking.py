"""`invoke lock` from InRelease to rows, on an archive of the test's own."""

from __future__ import annotations

import pytest

from dindkit.errors import RecipeError
from tests.packages.conftest import Place


def test_lock_lists_closure_with_reasons(place: Place) -> None:
    place.archive.add_deb("base-thing", fields={"Essential": "yes"})
    place.archive.add_deb("app", "2:1.0-1", architecture="amd64", depends="lib (>= 1), helper | other")
    place.archive.add_deb("lib", "1.2")
    place.archive.add_deb("helper")
    place.archive.add_deb("unrelated")
    place.archive.publish("trixie", date=1_700_000_000)
    lock = place.lock("app")
    assert {row.name: row.why for row in lock.rows} == {
        "app": "requested",
        "base-thing": "essential",
        "helper": "app",
        "lib": "app",
    }
    assert lock.epoch == 1_700_000_000
    (origin,) = lock.archives
    assert origin.signer == place.archive.signers[0]
    files = place.store.fetch(lock.rows, place.keys, place.progress, lock.snapshots)
    assert {row.name for row in files} == {row.name for row in lock.rows}


def test_unknown_package_is_named(place: Place) -> None:
    place.archive.publish("trixie")
    with pytest.raises(RecipeError, match="no package nonesuch"):
        place.lock("nonesuch")
