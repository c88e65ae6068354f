"""The page in a real browser."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from dindkit.review.page import treemap
from dindkit.review.page.render import render
from dindkit.review.page.treemap import Box, squarify
from dindkit.review.report import Report, Update, UpdateCheck
from tests.review.conftest import Scene

SECTIONS = [
    "chain",
    "updates",
    "keys",
    "archives",
    "space",
    "packages",
    "licences",
    "files",
    "changed",
    "privileges",
]
SECTIONS += ["start", "users"]


@pytest.fixture
def report(scene: Scene) -> Report:
    update = Update("libc", "1.0", "1.0+deb13u1", "debian-security", security=True)
    return replace(scene.report(), now=UpdateCheck((update,), 4, ("libc",)))


@dataclass
class Opened:
    """A page in the browser, with what the browser complained of and what it asked the network for."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


def open_page(browser: Browser, report: Report, folder: Path, scripts: bool = True) -> Opened:
    file = folder / "audit.html"
    file.write_text(render(report))
    opened = Opened(browser.new_context(java_script_enabled=scripts).new_page())
    opened.page.on("console", lambda message: opened.complaints.append(message.text))
    opened.page.on("pageerror", lambda error: opened.complaints.append(str(error)))
    opened.page.on("request", lambda request: opened.requests.append(request.url))
    opened.page.goto(file.as_uri())
    return opened


@pytest.mark.parametrize("scripts", [True, False])
def test_each_section_is_visible_and_nothing_is_fetched(
    browser: Browser, report: Report, tmp_path: Path, scripts: bool
) -> None:
    opened = open_page(browser, report, tmp_path, scripts)
    for name in SECTIONS:
        section = opened.page.locator(f"section#{name}")
        section.scroll_into_view_if_needed()
        assert section.locator("h2").is_visible()
        assert section.bounding_box()["height"] > 60  # type: ignore[index]
    assert opened.page.locator("svg.chain .node").count() == 3 + 3 + 3 + 3 + 1
    assert opened.page.locator("#files tbody tr").count() == len(report.unowned)
    assert opened.page.locator("#packages .tools").is_visible() is scripts
    assert opened.complaints == []
    assert [url for url in opened.requests if not url.startswith(("file:", "data:"))] == []


def test_tables_are_filtered_and_sorted(browser: Browser, report: Report, tmp_path: Path) -> None:
    page = open_page(browser, report, tmp_path).page
    page.get_by_label("filter packages").fill("→ apt")
    shown = page.locator("#packages tbody tr:visible td:first-child")
    assert shown.all_inner_texts() == ["libc"]
    assert page.locator("#packages output").inner_text() == f"1 of {len(report.packages)}"
    page.get_by_label("filter packages").fill("")
    page.get_by_label("archive", exact=True).select_option("docker")
    assert shown.all_inner_texts() == ["docker-ce"]
    page.get_by_label("archive", exact=True).select_option("")
    page.locator("#packages th button").first.click()
    page.locator("#packages th button").first.click()
    assert shown.all_inner_texts() == sorted((one.name for one in report.packages), reverse=True)


def test_names_are_text_and_never_markup(browser: Browser, report: Report, tmp_path: Path) -> None:
    hostile = "<img src=x onerror=alert(1)>\"'&"
    reports = replace(report, packages=(replace(report.packages[0], name=hostile), *report.packages[1:]))
    opened = open_page(browser, reports, tmp_path)
    assert opened.page.locator("#packages tbody strong").first.inner_text() == hostile
    assert opened.page.locator("#packages img").count() == 0
    assert "Expat<b>" in opened.page.locator("#licences").inner_text()
    assert "Expat<b>" in opened.page.locator("#packages tbody").inner_text()
    assert "/etc/mystery<b>" in opened.page.locator("#files").inner_text()
    assert opened.complaints == []


def test_the_page_is_one_file_and_the_same_every_time(report: Report) -> None:
    page = render(report)
    assert page == render(report)
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)
    assert "default-src 'none'" in html.unescape(page)


def test_areas_are_in_proportion() -> None:
    sizes = [600.0, 300.0, 60.0, 30.0, 10.0]
    boxes = squarify(sizes, Box(0, 0, 100, 10))
    assert [box.width * box.height for box in boxes] == pytest.approx(sizes)
    assert all(box.x >= 0 and box.x + box.width <= 100.0001 for box in boxes)
    assert squarify([], Box(0, 0, 1, 1)) == []
    assert "0 0 1120 560" in treemap.draw([])
