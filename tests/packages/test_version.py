"""deb-version(7), against dpkg itself."""

from __future__ import annotations

import itertools
import subprocess

import pytest

from dindkit.errors import RecipeError
from dindkit.packages import relation, version
from dindkit.packages.relation import Relation

VERSIONS = [
    "0", "1", "1.0", "1.0-0", "1.0-1", "1.0-1~", "1.0~", "1.0~~", "1.0~~a", "1.0~rc1", "1.0~rc10", "1.0~rc2",
    "1.0a", "1.0+", "1.0+b1", "1.0.", "1.0-1+b1", "1.0-1.1", "1:0.1", "0:1.0", "2:26.1.5+dfsg1-9", "10", "9",
    "1.2-3-4", "1.2-3-10", "1." + "9" * 900, "1." + "0" * 900 + "8", "7" * 20 + "-1",
    "5:29.5.3-1~debian.13~trixie", "5:29.5.3-1~ubuntu.22.04~jammy", "1.00", "1.0-a",
]  # fmt: skip


def test_order_is_dpkgs() -> None:
    pairs = list(itertools.combinations_with_replacement(VERSIONS, 2))
    script = "\n".join(f"dpkg --compare-versions {a} lt {b}; echo $?" for a, b in pairs)
    said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout.split()
    for (left, right), code in zip(pairs, said, strict=True):
        assert (version.compare(left, right) < 0) == (code == "0"), (left, right)
        assert version.compare(left, right) == -version.compare(right, left), (left, right)


def test_numbers_that_python_takes_for_none() -> None:
    nines = "9" * 5000
    assert version.compare(f"1.{nines}", f"1.{nines}9") < 0
    assert version.compare(f"{nines}:1", f"0{nines}:1") == 0
    assert version.compare("1:1", "²:1") > 0, "what is no digit for dpkg makes no epoch"
    assert version.compare("1.٣", "1.2") > 0


def test_relations_as_policy_writes_them() -> None:
    field = "libc6 (>= 2.34), a:any | b ( << 1:2~ ),\n c(=1), d (> 1)"
    assert relation.parse(field) == (
        (Relation("libc6", "", ">=", "2.34"),),
        (Relation("a", "any"), Relation("b", "", "<<", "1:2~")),
        (Relation("c", "", "=", "1"),),
        (Relation("d", "", ">", "1"),),
    )
    assert relation.parse("") == ()


@pytest.mark.parametrize("field", ["a b", "a (1)", "a (>= )", "(>= 1)", "a | ", "${misc:Depends}"])
def test_malformed_relation(field: str) -> None:
    with pytest.raises(RecipeError, match="does not know"):
        relation.parse(field)
