"""A hook for MkDocs: README.md and CHANGELOG.md as pages, and links that lead out of docs/."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent

#: Files of the top folder that are pages, and their names there.
PAGES = {"README.md": "index.md", "CHANGELOG.md": "changelog.md"}

#: A link of Markdown: its text and where it leads.
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of the top folder."""
    for source, name in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, name, content=_rebased(text)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn what leads out of docs/ into links to the repository, or plain text where it has no address."""
    return LINK.sub(lambda link: _outward(link, page.file.src_uri), markdown)


def _rebased(text: str) -> str:
    """Return a text of the top folder as if it lay in docs/."""

    def rebase(link: re.Match[str]) -> str:
        image, words, target = link.groups()
        if re.match(r"[a-z]+:|#", target):
            return link[0]
        target = target.removeprefix("docs/") if target.startswith("docs/") else f"../{target}"
        return f"{image}[{words}]({target})"

    return LINK.sub(rebase, text)


def _outward(link: re.Match[str], _: str) -> str:
    image, words, target = link.groups()
    if not target.startswith("../"):
        return link[0]
    path, _, anchor = target.removeprefix("../").partition("#")
    if path in PAGES:
        return f"{image}[{words}]({PAGES[path]}{'#' + anchor if anchor else ''})"
    server, repository = os.environ.get("GITHUB_SERVER_URL"), os.environ.get("GITHUB_REPOSITORY")
    if not (server and repository):
        return words
    return f"{image}[{words}]({server}/{repository}/blob/HEAD/{path}{'#' + anchor if anchor else ''})"
