"""Packages that meet: through each other's links, and through the links of merged /usr."""

from __future__ import annotations

from pathlib import Path

import pytest

from dindkit.formats import deb
from dindkit.formats.deb import Deb, DebError
from dindkit.formats.package_conflicts import MERGED, canonical, check_together
from tests.formats.test_deb import CONTROL, Row
from tests.support.deb import Link, build


def read(tmp_path: Path, name: str, files: dict[str, str | Link]) -> Deb:
    path = tmp_path / f"{name}.deb"
    path.write_bytes(build(CONTROL | {"Package": name}, files, {}))
    return deb.inspect(path, Row(name))


def test_a_path_through_another_packages_link(tmp_path: Path) -> None:
    one = read(tmp_path, "one", {"opt/x": Link("/etc")})
    two = read(tmp_path, "two", {"opt/x/passwd": "root::0:0::/:/bin/sh\n"})
    for order in ([one, two], [two, one]):
        with pytest.raises(DebError, match=r"two.*opt/x/passwd leads through the link opt/x of one"):
            check_together(order, {})
    check_together([one], {})
    with pytest.raises(DebError, match="link opt/x of the parent image"):
        check_together([two], {"opt/x": "/etc"})


def test_merged_usr_is_the_one_layout_with_links(tmp_path: Path) -> None:
    base = read(tmp_path, "base-files", {"lib": Link("usr/lib")})
    old = read(tmp_path, "old", {"lib/x": "x"})
    check_together([base, old], {})
    check_together([old], {"lib": "usr/lib"})
    evil = read(tmp_path, "evil", {"lib": Link("/etc")})
    for order in ([base, evil, old], [evil, base, old], [old, evil]):
        with pytest.raises(DebError, match=r"old.*link lib of evil"):
            check_together(order, {})


@pytest.mark.parametrize(
    "target", ["/usr/sbin", "usr/sbin/", "//usr/sbin", "./usr/sbin", "usr//sbin", "/usr/sbin/"]
)
def test_the_links_of_merged_usr_are_the_same_to_the_letter(tmp_path: Path, target: str) -> None:
    """An absolute one would lead whoever lays the tree out to the host's own /usr/sbin."""
    base = read(tmp_path, "base-files", {"sbin": Link(target)})
    old = read(tmp_path, "old", {"sbin/init": "#!/bin/sh\n"})
    with pytest.raises(DebError, match=r"old.*sbin/init leads through the link sbin of base-files"):
        check_together([base, old], {})
    with pytest.raises(DebError, match=r"old.*sbin/init leads through the link sbin of the parent image"):
        check_together([old], {"sbin": target})


@pytest.mark.parametrize("top", sorted(MERGED))
def test_two_packages_that_meet_through_merged_usr(tmp_path: Path, top: str) -> None:
    """`lib/x` and `usr/lib/x` are one path, so a link at the one leads the other's files elsewhere."""
    base = read(tmp_path, "base-files", {top: Link(f"usr/{top}")})
    for link, file in ((f"{top}/x", f"usr/{top}/x/file"), (f"usr/{top}/x", f"{top}/x/file")):
        one = read(tmp_path, "one", {link: Link("/etc")})
        two = read(tmp_path, "two", {file: "x"})
        for order in ([base, one, two], [two, one, base]):
            with pytest.raises(DebError, match=rf"two.*{file} leads through the link .*{top}/x of one"):
                check_together(order, {})
    old = read(tmp_path, "old", {f"{top}/x/file": "x"})
    with pytest.raises(DebError, match=rf"old.*through the link usr/{top}/x of the parent image, to /etc"):
        check_together([old], {top: f"usr/{top}", f"usr/{top}/x": "/etc"})
    check_together([base, read(tmp_path, "fine", {f"{top}/y/file": "x", f"usr/{top}/z/file": "x"})], {})


def test_where_a_path_lies() -> None:
    assert canonical("lib/x/y") == "usr/lib/x/y"
    assert [canonical(path) for path in ("lib", "usr/lib/x", "library/x", "")] == [
        "lib",
        "usr/lib/x",
        "library/x",
        "",
    ]
