"""The one door to other programs."""

from __future__ import annotations

import io
import sys

import pytest

from dindkit import process
from dindkit.errors import DindkitError, ToolMissingError
from dindkit.progress import Progress, size


def test_output_comes_back_and_input_goes_in() -> None:
    assert process.run(["cat"], input=b"hello").stdout == b"hello"


def test_without_input_nothing_is_waited_for() -> None:
    assert process.run(["cat"]).stdout == b""


def test_a_missing_tool_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(process, "SBIN", "/nonexistent")
    with pytest.raises(ToolMissingError, match=r"newuidmap is not installed\. Run: apt-get install uidmap"):
        process.run(["newuidmap"])


def test_a_failure_carries_the_last_line_and_all_output() -> None:
    with pytest.raises(process.CommandError, match="exit code 4: second") as caught:
        process.run(["sh", "-c", "echo first >&2; echo second >&2; exit 4"])
    assert caught.value.output == "first\nsecond\n"


def test_a_program_that_hangs_is_ended() -> None:
    with pytest.raises(DindkitError, match=r"did not end within 0\.1 s"):
        process.run([sys.executable, "-c", "import time; time.sleep(60)"], timeout=0.1)


def test_plain_lines_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    progress = Progress(stream)
    with progress.step("download", total=10) as step:
        step.advance(10)
        step.detail = size(101_200_000)
    line = stream.getvalue()
    assert line.startswith("download ")
    assert line.endswith(" s  101.2 MB\n")
    assert "\x1b" not in line
    assert list(progress.timings) == ["download"]
