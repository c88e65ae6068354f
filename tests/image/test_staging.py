"""Packages that wait to be checked: the one that takes longest must not come last, when all else is done."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from dindkit.errors import TrustError
from dindkit.image.staging import Staging
from dindkit.progress import Step
from tests.image.test_hostile import hostile


def test_what_waits_is_checked_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    order, check, free = list[str](), Staging._check_next, threading.Event()
    with Staging(tmp_path / "staging") as staging:

        def recorded(one: Staging) -> None:
            assert free.wait(60)
            order.append(one._waiting.queue[0][1].name)
            check(one)

        monkeypatch.setattr(Staging, "_check_next", recorded)
        files = {name: hostile(name, {f"usr/share/{name}": "x"}, tmp_path) for name in "cabd"}
        staging.arrange(row for name in "abcd" for row in files[name])
        begun = {row: path for found in files.values() for row, path in found.items()}
        for row, path in begun.items():
            staging.begin(row, path)
        free.set()
        debs = staging.checked(begun, Step(None, None))
    assert order == list("abcd")
    assert [one.name for one in debs] == list("abcd")


def test_a_check_that_fails_is_told_where_it_is_asked_for(tmp_path: Path) -> None:
    files = hostile("good", {"usr/share/good": "x"}, tmp_path)
    other = {replace(row, name="other", size=row.size - 1): path for row, path in files.items()}
    with Staging(tmp_path / "staging") as staging:
        for row, path in {**other, **files}.items():
            staging.begin(row, path)
        assert [one.name for one in staging.checked(files, Step(None, None))] == ["good"]
        with pytest.raises(TrustError, match="other was changed after it was downloaded"):
            staging.checked(other, Step(None, None))
