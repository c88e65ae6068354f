"""What a project has beside its code: workflows that can run, a site without dead links, a version."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import sys
import tomllib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from tests.test_readme import COMMAND, verbs

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def run(*words: str | Path, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, with both outputs as text."""
    return subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def steps(workflow: Path) -> Iterator[dict[str, Any]]:
    """Yield every step of a workflow's jobs."""
    for job in yaml.safe_load(workflow.read_text())["jobs"].values():
        yield from job["steps"]


def test_there_are_workflows() -> None:
    assert {path.stem for path in WORKFLOWS} == {"ci", "lock", "release"}


def test_workflows_hold_to_the_schema() -> None:
    done = run(Path(sys.executable).with_name("actionlint"), *WORKFLOWS)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_what_steps_run_is_here(workflow: Path) -> None:
    """Programs of the repository, verbs, and options; the shell parses each step."""
    known = verbs()
    scripts = [step["run"] for step in steps(workflow) if "run" in step]
    assert scripts
    for script in scripts:
        plain = re.sub(r"\$\{\{.*?\}\}", "expression", script)
        assert run("sh", "-n", "-c", plain).stderr == ""
        for program in re.findall(r"(?:^|[\s|])((?:scripts|\.ci)/\w+)", script):
            assert os.access(ROOT / program, os.X_OK), program
        for said in COMMAND.findall(script):
            for word in said.split():
                assert word in known or word.split("=")[0] in set().union(*known.values()), f"invoke{said}"


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned(workflow: Path) -> None:
    """By commit: a tag can be moved by whoever has the action's repository."""
    for step in steps(workflow):
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step.get("uses", "actions/x@" + "0" * 40)), step


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    """MkDocs' strict mode: each page is in the navigation, each link and anchor leads somewhere."""
    done = run(sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} | {"index", "changelog"}
    assert pages <= {path.stem for path in tmp_path.glob("*.html")}
    for page in tmp_path.glob("*.html"):
        assert not re.findall(r"<(?:script|link)[^>]+(?:src|href)=\"https?:", page.read_text()), page


class TestARelease:
    @pytest.fixture
    def copy(self, tmp_path: Path) -> Path:
        (tmp_path / "scripts").mkdir()
        shutil.copy(ROOT / "scripts" / "check_version", tmp_path / "scripts")
        (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.0"\n')
        (tmp_path / "CHANGELOG.md").write_text("## [Unreleased]\n\n## [1.2.0] - 2026-11-01\n")
        return tmp_path

    def test_has_the_tag_of_its_version(self, copy: Path) -> None:
        assert run(copy / "scripts" / "check_version", "v1.2.0").returncode == 0

    @pytest.mark.parametrize("tag", ["1.2.0", "v1.2.1", "v1.2.0-rc1", ""])
    def test_of_another_tag_is_refused(self, copy: Path, tag: str) -> None:
        done = run(copy / "scripts" / "check_version", tag)
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
        assert "version 1.2.0" in done.stderr

    def test_without_a_section_in_the_changelog_is_refused(self, copy: Path) -> None:
        (copy / "CHANGELOG.md").write_text("## [Unreleased]\n")
        done = run(copy / "scripts" / "check_version", "v1.2.0")
        assert (done.returncode, "no section" in done.stderr) == (1, True)

    def test_of_this_version_can_be_named(self) -> None:
        version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
        assert f"v{version}" in run(ROOT / "scripts" / "check_version", "v0").stderr


class TestTheWeeklyLock:
    """With a git repository on this disk as the remote, and a stand-in for GitHub's command line."""

    @pytest.fixture
    def clone(self, tmp_path: Path) -> Path:
        remote, clone = tmp_path / "remote", tmp_path / "clone"
        run("git", "init", "--quiet", "--bare", remote)
        run("git", "init", "--quiet", clone)
        (clone / "images").mkdir()
        (clone / "scripts").mkdir()
        (clone / "images" / "a.lock").write_text("old\n")
        shutil.copy(ROOT / "scripts" / "propose_lock", clone / "scripts")
        run("git", "add", "--all", cwd=clone)
        run("git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "First", cwd=clone)
        run("git", "remote", "add", "origin", remote, cwd=clone)
        programs = tmp_path / "programs"
        programs.mkdir()
        (programs / "gh").write_text(
            f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path}/asked\ncat >{tmp_path}/body\n'
        )
        (programs / "gh").chmod(0o755)
        (clone / "review.txt").write_text("dind: curl 1 -> 2\n")
        return clone

    def propose(self, clone: Path) -> subprocess.CompletedProcess[str]:
        path = f"{clone.parent / 'programs'}:{os.environ['PATH']}"
        return run("scripts/propose_lock", "review.txt", cwd=clone, PATH=path)

    def test_that_changes_nothing_proposes_nothing(self, clone: Path) -> None:
        done = self.propose(clone)
        assert (done.returncode, "nothing to propose" in done.stdout) == (0, True)
        assert not (clone.parent / "asked").exists()

    def test_that_changes_something_is_a_pull_request_with_the_table(self, clone: Path) -> None:
        (clone / "images" / "a.lock").write_text("new\n")
        assert self.propose(clone).returncode == 0
        branch = run("git", "branch", "--show-current", cwd=clone).stdout.strip()
        assert branch.startswith("lock-")
        pushed = run("git", "show", f"{branch}:images/a.lock", cwd=clone.parent / "remote")
        assert pushed.stdout == "new\n"
        assert run("git", "show", "--name-only", "--format=", branch, cwd=clone).stdout == "images/a.lock\n"
        assert f"--head\n{branch}" in (clone.parent / "asked").read_text()
        assert "dind: curl 1 -> 2" in (clone.parent / "body").read_text()


class TestARecording:
    """The README's picture of its first command, made by a script of the repository."""

    SCRIPT = ROOT / "scripts" / "record_svg.py"

    def test_shows_each_line_at_its_time(self, tmp_path: Path) -> None:
        picture = tmp_path / "x.svg"
        assert (
            run(self.SCRIPT, picture, "--", "sh", "-c", "echo 'a <b> & c'; sleep 1; echo later").returncode
            == 0
        )
        root = ElementTree.parse(picture).getroot()
        texts = ["".join(text.itertext()) for text in root.iter("{http://www.w3.org/2000/svg}text")]
        assert texts[1:3] == ["a <b> & c", "later"]
        first, second = re.findall(
            r"@keyframes l[01] .* ([\d.]+)% \{ opacity: 1 \} 100%", picture.read_text()
        )
        assert float(first) < 5 < 10 < float(second)

    def test_of_a_failure_is_not_kept(self, tmp_path: Path) -> None:
        picture = tmp_path / "x.svg"
        picture.write_text("old")
        done = run(self.SCRIPT, picture, "--", "sh", "-c", "echo a; exit 3")
        assert (done.returncode, picture.read_text()) == (1, "old")
        assert "exit code 3" in done.stderr

    def test_a_long_wait_is_short_in_it(self, tmp_path: Path) -> None:
        picture = tmp_path / "x.svg"
        assert run(self.SCRIPT, picture, "--", "sh", "-c", "echo a; sleep 3; echo b").returncode == 0
        text = picture.read_text()
        total = float(re.findall(r"animation: ([\d.]+)s", text)[0])
        assert 7 < total < 8
        assert "3 seconds, of which waits are shortened here" in text

    def test_in_the_readme_is_of_its_first_command_and_names_nobody(self) -> None:
        text = (ROOT / "docs/first-command.svg").read_text()
        readme = (ROOT / "README.md").read_text()
        first = re.findall(r"^```sh\n(scripts/invoke [a-z ]*\w)", readme, re.MULTILINE)[0]
        assert f">$ {first}</text>" in text
        shown = re.findall(r"<text [^>]*>(.*?)</text>", text)
        assert [line for line in shown if line.startswith("hello from level 2 on host ")]
        assert all("/srv/" in line for line in shown if re.search(r"(?<![\w.])/\w", line))
        assert not re.search(r"/(?:root|home|work|tmp)/", text.replace("/srv/home/", ""))


class TestAPicture:
    """Of the audit's page in README, taken by a real browser."""

    SCRIPT = ROOT / "scripts" / "picture_page.py"

    def test_is_what_the_browser_shows(self, tmp_path: Path) -> None:
        page, picture = tmp_path / "a page.html", tmp_path / "x.png"
        page.write_text("<body style='margin: 0; background: #123456'>")
        done = run(self.SCRIPT, page, picture)
        assert (done.returncode, done.stderr) == (0, "")
        width, height, first = first_pixel(picture)
        assert (width, height, first) == (1120, 810, b"\x12\x34\x56")

    def test_of_nothing_is_a_sentence(self, tmp_path: Path) -> None:
        done = run(self.SCRIPT, tmp_path / "gone.html", tmp_path / "x.png")
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
        assert "gone.html is no file. Run: scripts/invoke audit --html" in done.stderr
        assert not (tmp_path / "x.png").exists()

    def test_in_the_readme_is_small_and_has_words_in_its_place(self) -> None:
        picture = ROOT / "docs/audit-page.png"
        assert picture.stat().st_size < 200_000
        assert first_pixel(picture)[:2] == (1120, 810)
        for words, name in re.findall(r"!\[([^]]*)\]\((docs/[\w.-]+)\)", (ROOT / "README.md").read_text()):
            assert len(words) > 60, name


def first_pixel(picture: Path) -> tuple[int, int, bytes]:
    """Return width, height and the first pixel's red, green and blue of a PNG."""
    content = picture.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">2I", content[16:24])
    at, data = 8, b""
    while at < len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        if content[at + 4 : at + 8] == b"IDAT":
            data += content[at + 8 : at + 8 + length]
        at += 12 + length
    # Before it is the first row's filter; of the first pixel every filter leaves the value as it is.
    return width, height, zlib.decompress(data)[1:4]
