"""Names and fields that are no UTF-8, or that would move a terminal: no document breaks, each tells."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dindkit import json_document
from dindkit.formats.entry import Entry
from dindkit.formats.tree import Tree
from dindkit.image import sbom
from dindkit.image.build_options import BuildOptions
from dindkit.progress import Progress
from dindkit.review import audit, text
from dindkit.review.page import treemap
from dindkit.review.page.render import render
from dindkit.review.report import Report, Space
from tests.review.conftest import Scene, pack
from tests.support import schemas
from tests.support.local_project import LocalProject

LATIN = "caf\udce9"
ESCAPE = "a\x1b]0;owned\x07\x1b[2Jb"
BIDI = "invoice\u202egnp.exe\u2066"
LINES = "one\nroot is fine\u2028two"
MARKUP = "[bold]x \\[red]y[link=z]:skull:<b>&amp;"
NAMES = (LATIN, ESCAPE, BIDI, LINES, MARKUP)
SEEN = (
    r"caf\xe9",
    r"a\x1b]0;owned\x07\x1b[2Jb",
    r"invoice\u202egnp.exe\u2066",
    r"one\nroot is fine\u2028two",
    MARKUP,
)


def oddities(tree: Tree) -> None:
    for name in NAMES:
        tree.put(f"etc/{name}", name.encode("utf-8", "surrogateescape"), 0o4777)
        tree.add(Entry(f"etc/link-{name}", "symlink", 0o777, link=f"/etc/{name}"))
    listed = "".join(f"/etc/link-{name}\n" for name in NAMES if "\n" not in name)
    tree.put("var/lib/dpkg/info/tool.list", f"/.\n/usr/bin/tool\n{listed}".encode("utf-8", "surrogateescape"))
    script = f"#!/bin/sh\ntouch /etc/{LATIN} # \udcff\n".encode("utf-8", "surrogateescape")
    tree.put("var/lib/dpkg/info/tool.postinst", script, 0o755)
    passwd = tree.text("etc/passwd") + f"{LATIN}:x:3:4:\udcff:/{ESCAPE}:/bin/{BIDI}\nodd:x:no:number::/:/\n"
    tree.edit("etc/passwd", passwd + "odd:x:\u00b2:1::/:/\n")


@pytest.fixture
def odd(scene: Scene, tmp_path: Path) -> Report:
    scene.built = pack(scene.chain, tmp_path / "odd", oddities)
    return scene.report()


def assert_clean(shown: str) -> None:
    for bad in ("\x1b", "\x07", "\u202e", "\u2066", "\u2028", "\udce9", "\udcff"):
        assert bad not in shown


@pytest.mark.parametrize("terminal", [False, True])
def test_text(odd: Report, terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    if terminal:
        monkeypatch.setattr(out, "isatty", lambda: True)
        monkeypatch.setenv("COLUMNS", "3000")
        monkeypatch.setenv("TERM", "xterm")
    text.show(odd, out)
    assert ("\x1b[1m" in out.getvalue()) == terminal
    shown = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())  # our own bold and colours
    assert_clean(shown)
    for seen in SEEN:
        assert f"/etc/{seen}" in shown


def test_json(odd: Report, monkeypatch: pytest.MonkeyPatch, scene: Scene) -> None:
    monkeypatch.setattr(audit, "examine", lambda *_words, **_options: odd)
    found: dict[str, Any] = {}
    audit.audit(scene.project, BuildOptions("dind"), scene.progress, io.StringIO(), found=found)
    out = io.StringIO()
    json_document.write(json_document.document("audit", found, None, ()), out)
    assert_clean(out.getvalue())
    assert out.getvalue().isascii()
    document = schemas.check("audit", json.loads(out.getvalue()))
    told = {one["path"] for one in document["result"]["unowned"]}
    assert {r"/etc/caf\xe9", *(f"/etc/{name}" for name in NAMES[1:])} <= told


def test_html(odd: Report, monkeypatch: pytest.MonkeyPatch, scene: Scene, tmp_path: Path) -> None:
    monkeypatch.setattr(audit, "examine", lambda *_words, **_options: odd)
    page = tmp_path / "page.html"
    audit.audit(scene.project, BuildOptions("dind"), scene.progress, io.StringIO(), html=page)
    shown = page.read_text("utf-8")
    assert_clean(shown)
    for seen in SEEN[:4]:
        assert f"/etc/{seen}" in shown
    assert "/etc/[bold]x \\[red]y[link=z]:skull:&lt;b&gt;&amp;amp;" in shown


def test_users_with_odd_ids_are_left_out(odd: Report) -> None:
    assert [user.name for user in odd.users] == ["root", "guest", "odd", "open", LATIN]


def test_a_tiny_layer_is_drawn(odd: Report) -> None:
    tiny = [Space("large", "libc", 200_000_000, True), Space("base", "netbase", 40, True)]
    assert "40 B" in treemap.draw(tiny)
    assert "libc" in treemap.draw(tiny)
    assert "smaller ones" in treemap.draw([Space("l", f"p{number}", 1, True) for number in range(3000)])
    assert treemap.draw([])
    assert "40 B" in render(replace(odd, space=tuple(tiny)))


@given(st.lists(st.lists(st.integers(1, 1 << 50), min_size=1, max_size=30), max_size=6))
def test_any_sizes_can_be_drawn(layers: list[list[int]]) -> None:
    things = [
        Space(f"layer {index}", f"p{number}", size, True)
        for index, sizes in enumerate(layers)
        for number, size in enumerate(sizes)
    ]
    treemap.draw(things)


@given(
    st.lists(st.floats(1e-3, 1e15), min_size=1, max_size=20).map(lambda sizes: sorted(sizes, reverse=True)),
    st.floats(0, 1120),
    st.floats(0, 560),
)
def test_boxes_stay_within_theirs(sizes: Sequence[float], width: float, height: float) -> None:
    boxes = treemap.squarify(sizes, treemap.Box(0, 0, width, height))
    assert len(boxes) == len(sizes)
    for box in boxes:
        assert box.width >= 0
        assert box.height >= 0
        assert box.x + box.width <= width + 1e-3
        assert box.y + box.height <= height + 1e-3


def test_a_real_package_with_odd_bytes(small_project: LocalProject, tmp_path: Path) -> None:
    """One whose maintainer and files are Latin-1."""
    member = tarfile.TarInfo(f"./usr/share/{LATIN}")
    member.size = 1
    escape = tarfile.TarInfo(f"./usr/share/{ESCAPE}")
    small_project.archive.stanzas[:] = [
        one for one in small_project.archive.stanzas if one["Package"] != "greeter"
    ]
    small_project.archive.add_deb(
        "greeter",
        "2.0",
        fields={"Maintainer": "Ren\udce9 \u202e<rene@example.org>", "Homepage": "https://x.test/\udcff\x1b"},
        files={"usr/share/tiny": "x"},
        members=[(member, b"x"), (escape, b"")],
    )
    small_project.publish()
    small_project.lock()
    built = small_project.build()
    document = json.loads(sbom.read(built))
    (greeter,) = [one for one in document["packages"] if one["name"] == "greeter"]
    assert greeter["supplier"] == "Person: Ren\\xe9 \u202e (rene@example.org)"
    assert greeter["homepage"] == "https://x.test/\\xff\x1b"
    out, page = io.StringIO(), tmp_path / "page.html"
    options = BuildOptions(image="app")
    found: dict[str, Any] = {}
    audit.audit(small_project.project, options, Progress(small_project.said), out, found=found)
    json_document.write(json_document.document("audit", found, None, ()), out)
    audit.audit(small_project.project, options, Progress(small_project.said), out)
    audit.audit(small_project.project, options, Progress(small_project.said), out, html=page)
    assert_clean(out.getvalue())
    assert_clean(page.read_text("utf-8"))


def test_a_table_without_end_is_not_printed_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """A foreign image has as many labels as it likes, of any length."""
    monkeypatch.setattr(text, "MOST_ROWS", 2)
    out = io.StringIO()
    rows = [("a", "x" * 1_000_000), ("b", "1"), ("c", "2"), ("d", "3")]
    text.print_tables(text.console_for(out), [("Labels", ("what", "is"), rows)])
    assert out.getvalue().rstrip().endswith("… and 2 more: --json, --html")
    assert len(out.getvalue()) < 20_000
