"""What a terminal gets to see of names, fields and words that come from outside."""

from __future__ import annotations

import ast
import functools
import io
import json
import os
import subprocess
import sys
import unicodedata
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from rich.console import Console

from dindkit.printing import encodable, json_result, result, visible
from dindkit.progress import Progress

ROOT = Path(__file__).parents[1]

#: Clears the screen, sets a title, C1's form of an escape, DEL, carriage return, backspace, overrides of
#: direction, isolates, zero-width characters, a tag, separators, and a byte that is no UTF-8.
HOSTILE = (
    "a\x1b[2Jb\x1b]0;title\x07c\x9b31md\x7fe\rf\bg\u202egnp\u202c.\u2066h\u2069i\u200bj\ufeff"
    "k\U000e0041l\u2028m\x85n\udcff"
)
SEEN = (
    r"a\x1b[2Jb\x1b]0;title\x07c\x9b31md\x7fe\rf\x08g\u202egnp\u202c.\u2066h\u2069i\u200bj\ufeff"
    r"k\U000e0041l\u2028m\x85n\xff"
)
MARKUP = "[bold red]not red[/] [link=http://evil.test]x[/link] :skull: \\[bold]"


@functools.cache
def unseen() -> frozenset[str]:
    """Return what cannot be seen, by Unicode's own categories; the tab is text."""
    every = map(chr, range(sys.maxunicode + 1))
    hidden = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return frozenset(one for one in every if unicodedata.category(one) in hidden and one != "\t")


def test_everything_that_cannot_be_seen_is_written_out() -> None:
    assert visible(HOSTILE) == SEEN
    assert [hex(ord(one)) for one in sorted(unseen()) if one in visible(one)] == []
    assert visible("one\ntwo") == r"one\ntwo"


def test_what_can_be_seen_stays() -> None:
    text = "Жук → naïve, 日本語 … ½ \t [x] {y} \\x1b 🐳"
    assert visible(text) == text
    assert visible(visible(HOSTILE)) == visible(HOSTILE)
    assert encodable("\x1b\udcff\ud800é") == "\x1b\\xff\\ud800é"


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_shows_text_as_text(terminal: bool) -> None:
    said = io.StringIO()
    progress = Progress(said)
    if terminal:
        progress._console = Console(
            file=said,
            force_terminal=True,
            width=400,
            color_system=None,
            highlight=False,
            markup=False,
            emoji=False,
        )
    with progress.step(HOSTILE + MARKUP) as step:
        step.detail = HOSTILE + MARKUP
    progress.note(HOSTILE + MARKUP)
    progress.note_once(HOSTILE + MARKUP)
    progress.warn(HOSTILE + MARKUP)
    progress.warn("x" * 1_000_000)
    assert len(said.getvalue()) < 10_000
    lines = said.getvalue().split("\n")
    assert sum((SEEN + MARKUP) in line for line in lines) >= 4
    for bad in ("\x1b[2J", "\x1b]", "\x9b", "\x7f", "\b", "\u202e", "\u200b", "\udcff", "\ufeff"):
        assert bad not in said.getvalue()


def test_results_keep_their_lines_and_nothing_else() -> None:
    said = io.StringIO()
    with redirect_stdout(said):
        result(f"one\n{HOSTILE}")
    assert said.getvalue() == f"one\n{SEEN}\n"


def test_json_is_shown_as_equal_json() -> None:
    value = {"name": HOSTILE[:-1] + "\U000e0041é\n", "list": [1, "\x7f"]}
    for indent in (None, 1):
        said = io.StringIO()
        text = json.dumps(value, ensure_ascii=False, indent=indent)
        json_result(text, said)
        assert json.loads(said.getvalue()) == value
        assert [one for one in said.getvalue() if one != "\n" and one in unseen()] == []
        assert said.getvalue().count("\n") == text.count("\n")
    said = io.StringIO()
    json_result(json.dumps(["caf\udce9"], ensure_ascii=False), said)
    assert json.loads(said.getvalue().encode()) == [r"caf\xe9"]


TASKS = """
from invoke import Collection
from dindkit.command_line.verb import verb
from dindkit.errors import DindkitError
from dindkit.printing import result

HOSTILE = {hostile!r}

@verb()
def sentence(_context):
    raise DindkitError(HOSTILE, HOSTILE)

@verb()
def endless(_context):
    raise DindkitError("begins " + "x" * 1_000_000 + " ends.", "Do this.")

@verb()
def system(_context):
    raise OSError(2, "No such file", HOSTILE)

@verb()
def binary(_context):
    raise OSError(2, "No such file", b"\\xff\\x1b")

@verb()
def bug(_context):
    raise ValueError(HOSTILE)

@verb()
def say(_context):
    result("→ " + HOSTILE)
"""


@pytest.mark.parametrize(
    ("task", "code", "out", "err"),
    [
        ("sentence", 1, "", f"error: {SEEN} {SEEN}\n"),
        ("endless", 1, "", f"error: begins {'x' * 5993} … {'x' * 1994} ends. Do this.\n"),
        ("system", 1, "", f"error: No such file: {SEEN}.\n"),
        ("binary", 1, "", "error: No such file: \\xff\\x1b.\n"),
        ("say", 0, f"→ {SEEN}\n", ""),
    ],
)
def test_what_a_command_prints(tmp_path: Path, task: str, code: int, out: str, err: str) -> None:
    done = run(tmp_path, task, "C.UTF-8")
    assert (done.returncode, done.stdout.decode(), done.stderr.decode()) == (code, out, err)


def test_a_bug_with_odd_words_is_a_sentence_too(tmp_path: Path) -> None:
    done = run(tmp_path, "bug", "C.UTF-8")
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: ") or done.stderr.startswith(b"internal error: ValueError(")
    assert b"Traceback" not in done.stderr
    assert done.stderr.isascii()
    assert b"ValueError" in (tmp_path / "state" / "last-error.txt").read_bytes()


def test_a_locale_that_knows_few_characters(tmp_path: Path) -> None:
    done = run(tmp_path, "say", "C.UTF-8", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout) == (0, b"\\u2192 " + SEEN.encode() + b"\n")


def run(tmp_path: Path, task: str, locale: str, **more: str) -> subprocess.CompletedProcess[bytes]:
    (tmp_path / "tasks.py").write_text(
        TASKS.format(hostile=HOSTILE), encoding="utf-8", errors="surrogatepass"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "DINDKIT_STATE": str(tmp_path / "state"),
        "LC_ALL": locale,
        **more,
    }
    words = [sys.executable, "-m", "invoke", "--search-root", str(tmp_path), task]
    return subprocess.run(words, env=environment, capture_output=True, check=False)


#: Modules that write to standard output or error themselves, and why.
WRITERS = {
    "dindkit/command_line/program.py": "a script, and words to choose from, for a shell that reads them",
    "dindkit/embedded/by_user.py": "a process of its own, whose answer its parent reads",
    "dindkit/printing.py": "the one place for results",
    "dindkit/progress.py": "the one place for all else",
    "dindkit/review/changes_text.py": "a table of cells that are all made visible",
    "dindkit/review/text.py": "a table of cells that are all made visible",
    "dindkit/sandbox/chroot_worker.py": "a process of its own, whose words become an error's",
    "dindkit/sandbox/emulation.py": "a process of its own, whose words become an error's",
    "dindkit/sandbox/worker.py": "a process of its own, whose words become an error's",
    "dindkit/tools/terminal.py": "passes on a container's terminal as it is",
}


def test_nothing_else_prints() -> None:
    found = set()
    for path in [ROOT / "tasks.py", *(ROOT / "dindkit").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            if (
                called == "print"
                or called.endswith(("console.print", "self._stream.write"))
                or (called.startswith(("sys.stdout.", "sys.stderr.")) and called.endswith("write"))
            ):
                found.add(str(path.relative_to(ROOT)))
            if called in ("Exit", "invoke.exceptions.Exit") and node.args:
                found.add(f"{path.relative_to(ROOT)}: {ast.unparse(node)}")
    allowed = set(WRITERS) | {
        "dindkit/command_line/failures.py: Exit(visible(as_called(sentence)), code=code)",
    }
    assert found <= allowed, found - allowed
