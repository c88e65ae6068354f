"""The page on paper and on a phone, in a real browser, with as much in it as an image of some size has."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from dindkit.review.page.render import render
from dindkit.review.report import Report
from tests.review.conftest import Scene

#: A4 without the margins of the style sheet (12 mm on each side), in CSS pixels.
PAPER = {"width": 703, "height": 1017}
PHONE = {"width": 420, "height": 900}
LONG = "/usr/share/ca-certificates/mozilla/" + "A_Certificate_Authority_With_A_Long_Name" * 4

#: Elements whose text is cut, or which reach over the right edge.
CUT = """wide => [...document.querySelectorAll("main *")].filter(one => one.clientWidth &&
    (one.scrollWidth > one.clientWidth || one.getBoundingClientRect().right > wide + 1)
).map(one => `${one.tagName} ${one.getAttribute("class")} ${one.textContent.slice(0, 60)}`)"""


@pytest.fixture
def large(scene: Scene) -> Report:
    """Return a report with 180 packages and 1,500 files that no package owns, some with long names."""
    report = scene.report()
    why = ("images/dind/image.toml", "openssh-client", "libfido2-1", "libcbor0.10")
    packages = tuple(
        replace(
            report.packages[0],
            name=f"lib{'long' * (number % 4)}{number}t64",
            version="1:2.41-5+deb13u1",
            why=why,
        )
        for number in range(180)
    )
    files = tuple(
        replace(report.unowned[0], path=f"{LONG}/{number}", by=f"package-{number % 60}")
        for number in range(1500)
    )
    return replace(report, packages=packages, unowned=files)


def opened(browser: Browser, report: Report, folder: Path, shape: dict[str, int]) -> Page:
    file = folder / "audit.html"
    file.write_text(render(report))
    page = browser.new_page(viewport=shape)  # type: ignore[arg-type]
    page.goto(file.as_uri())
    return page


def test_at_most_ten_sheets_of_paper(browser: Browser, large: Report, tmp_path: Path) -> None:
    page = opened(browser, large, tmp_path, PAPER)
    sheets = len(re.findall(rb"/Type\s*/Page\b", page.pdf(format="A4", prefer_css_page_size=True)))
    assert 3 < sheets <= 10


def test_on_paper_no_text_is_cut_and_no_list_of_files_is_there(
    browser: Browser, large: Report, tmp_path: Path
) -> None:
    page = opened(browser, large, tmp_path, PAPER)
    page.emulate_media(media="print")
    assert page.evaluate(CUT, PAPER["width"]) == []
    assert page.locator("#packages tbody tr").last.is_visible()
    assert "liblonglonglong179t64" in page.locator("#packages").inner_text()
    assert not page.locator("#files table").is_visible()
    counts = page.locator("#files .counts").inner_text()
    assert "1,500" in counts
    assert "package-59 25" in counts
    assert large.archives[0].sha256 in page.locator("#archives").inner_text()


def test_a_phone_needs_no_scrolling_to_the_side(browser: Browser, large: Report, tmp_path: Path) -> None:
    page = opened(browser, large, tmp_path, PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    assert page.locator("ol.chain .node").count() == page.locator("svg.chain .node").count()
    assert page.locator("ol.chain").is_visible()
    assert not page.locator("svg.chain").is_visible()
    within = [
        one for one in page.evaluate(CUT, PHONE["width"]) if "hash" not in one
    ]  # a digest opens when touched
    assert within == []
    head = "getComputedStyle(document.querySelector('#users td[data-head=shell]'), '::before').content"
    assert page.evaluate(head) == '"shell"'
