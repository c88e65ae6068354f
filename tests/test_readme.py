"""What README and docs say can be typed: every verb and option in them exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import tasks

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "examples").glob("**/README.md")),
]
COMMAND = re.compile(r"(?:^|[`(\s/])invoke((?: +(?:--)?[a-z][\w.-]*)+)", re.MULTILINE)


def verbs() -> dict[str, set[str]]:
    """Every task's name with the long options that it takes."""
    found = {}
    for name in tasks.namespace.task_names:
        arguments = tasks.namespace[name].get_arguments()
        found[name] = {f"--{option.replace('_', '-')}" for argument in arguments for option in argument.names}
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_on_the_page_exists(page: Path) -> None:
    known = verbs()
    for said in COMMAND.findall(page.read_text()):
        verb = ""
        for word in said.split():
            if word in known:
                verb = word
            elif word.startswith("--") and verb:
                assert word in known[verb], f"invoke{said}"
            elif not verb and not word.startswith("--"):
                pytest.fail(f"no such verb: invoke{said}")


@pytest.mark.parametrize("name", sorted(verbs()))
def test_every_verb_has_help_with_an_example(name: str) -> None:
    text = tasks.namespace[name].__doc__ or ""
    assert f"Example: invoke {name}" in text or f"$(invoke {name})" in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target
