"""A lock edited by hand, held against the control files of its packages."""

from __future__ import annotations

import pytest

from dindkit.errors import RecipeError
from dindkit.packages.closure import check_closure
from dindkit.packages.lock import Row

CONTROLS = {
    "libc": {"Version": "2.41", "Essential": "yes"},
    "shell": {"Version": "1", "Essential": "yes", "Pre-Depends": "libc (>= 2)"},
    "app": {"Version": "1", "Depends": "lib (>= 1) | nonesuch, mail, shell", "Recommends": "extra"},
    "lib": {"Version": "1.5", "Depends": "libc"},
    "postfix": {"Version": "3", "Provides": "mail", "Conflicts": "mail"},
    "extra": {"Version": "1"},
    "rival": {"Version": "1", "Breaks": "lib (<< 2)"},
}
WHY = {"libc": "essential", "shell": "essential", "app": "requested", "lib": "app", "postfix": "app"}


def rows(*names: str, **whys: str) -> list[Row]:
    return [
        Row(name, CONTROLS[name]["Version"], "amd64", 1, "0" * 64, f"pool/{name}.deb", "debian", why)
        for name in names
        for why in [whys.get(name) or WHY.get(name) or "requested"]
    ]


def check(own: list[Row], parent: list[Row], requested: tuple[str, ...] = ("app",)) -> None:
    controls = {name: {"Package": name, "Architecture": "amd64", **it} for name, it in CONTROLS.items()}
    check_closure(own, controls, requested, parent)


def test_whole_closure_is_fine() -> None:
    check(rows("libc", "shell", "app", "lib", "postfix"), [])


def test_parent_counts() -> None:
    check(rows("app", "lib", "postfix"), rows("libc", "shell"))


@pytest.mark.parametrize(
    ("removed", "complaint"),
    [
        ("libc", r"shell needs libc \(>= 2\)"),
        ("lib", r"app needs lib \(>= 1\) \| nonesuch"),
        ("postfix", "app needs mail"),
        ("app", "the recipe asks for app, which has no row"),
    ],
)
def test_removed_row(removed: str, complaint: str) -> None:
    left = [name for name in WHY if name != removed]
    with pytest.raises(RecipeError, match=complaint):
        check(rows(*left), [])


def test_a_row_that_the_parent_has() -> None:
    """A library of another version would take the served of the parent's."""
    with pytest.raises(RecipeError, match="libc has a row in a parent's lock, too"):
        check(rows("app", "lib", "postfix", "libc", libc="lib"), rows("libc", "shell"))


@pytest.mark.parametrize("why", ["app", "lib", "essential", "requested", "nonesuch"])
def test_added_row_that_nothing_needs(why: str) -> None:
    with pytest.raises(RecipeError, match=f"extra is there because of {why}, which does not ask for it"):
        check(rows(*WHY, "extra", extra=why), [])


def test_rows_that_exclude_each_other() -> None:
    with pytest.raises(RecipeError, match=r"rival conflicts with lib \(lib \(<< 2\)\)"):
        check(rows(*WHY, "rival"), [], ("app", "rival"))


def test_parent_that_excludes_a_row() -> None:
    with pytest.raises(RecipeError, match="rival conflicts with lib"):
        check(rows("app", "lib", "postfix"), rows("libc", "shell", "rival"))
