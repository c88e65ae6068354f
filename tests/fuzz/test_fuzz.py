"""A bounded number of hostile cases of each kind, from the seed in pytest's header (DINDKIT_FUZZ_SEED)."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from tests.fuzz.target import Target, fuzz, trial
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_honest_input_is_taken(target: Target) -> None:
    ends: Counter[str] = Counter()
    trial(target, target.honest, ends)
    assert ends == {"accepted": 1}


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_hostile_input_is_taken_or_refused(target: Target) -> None:
    ends: Counter[str] = Counter()
    fuzz(target, int(os.environ["DINDKIT_FUZZ_SEED"]), target.examples, ends)
    assert sum(ends.values()) >= min(target.examples, 5), ends
