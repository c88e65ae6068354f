"""The table of `invoke bench build`: medians, ratios of rounds, and every row with what it may take."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dindkit import json_document
from dindkit.bench import build, loads, verb
from dindkit.bench.table import (
    CHANGED,
    CHECKS,
    COLD,
    DOCKER_LOAD,
    FRESH,
    LINES,
    LOAD,
    MMDEBSTRAP,
    PLAIN_LOAD,
    README,
    SCRIPTS,
    Result,
    Run,
)
from dindkit.engine.discover import Engine
from dindkit.errors import DindkitError, EngineError
from dindkit.image.built import Built
from dindkit.process import CommandError
from dindkit.progress import Progress
from dindkit.project import Project
from tests.support import schemas


@pytest.fixture
def result() -> Result:
    runs = {
        line.name: [Run(2.0, 3.0, 100), Run(4.0, 5.0, 300), Run(30.0, 7.0, 200)]
        for line in (*LINES, FRESH, LOAD)
    }
    runs[MMDEBSTRAP] = [Run(10.0, 9.0, 50), Run(10.0, 9.0, 50), Run(60.0, 9.0, 50)]
    runs[DOCKER_LOAD] = [Run(20.0, 1.0, 50)] * 3
    runs[PLAIN_LOAD] = [Run(1.0, 1.0, 50), Run(3.0, 1.0, 50), Run(8.0, 1.0, 50)]
    floor = {CHECKS[0]: 0.25, CHECKS[1]: 1.0, SCRIPTS[0]: 2.0, SCRIPTS[1]: 0.5}
    return Result(runs, 5_000_000, 1_000_000, floor, cores=1)


def test_the_table_has_medians_and_ratios_of_rounds(result: Result) -> None:
    text = result.as_text().splitlines()
    assert result.ratio(LINES[0]) == 0.4  # of 0.2, 0.4 and 0.5
    assert "4.00 s    5.00 s  0.35 of mmdebstrap's time; it is 0.40" in text[1]
    rows = [line.name for line in (*LINES, FRESH, LOAD)]
    assert rows == [row[:40].rstrip() for row in text[1 : 1 + len(rows)]]
    assert "0.50 of docker load's time; it is 0.20; no less than 3.0 s here" in text[len(rows)]
    assert "largest process of a build: 300 B, at most 400 MB" in text
    assert "image: 1.0 MB compressed, 5.0 MB unpacked" in text
    found = result.figures()
    schemas.check("bench", json_document.document("bench", found, None, ()))
    assert found["ratios"][LINES[0].name] == 0.4
    assert found["runs"][MMDEBSTRAP][2]["seconds"] == 60.0


def test_a_row_that_was_not_measured_is_left_out(result: Result) -> None:
    """An engine answers: none can be booted beside it."""
    runs = {**result.runs, FRESH.name: []}
    found = replace(result, runs=runs)
    assert FRESH.name in result.as_text()
    assert FRESH.name not in found.as_text()
    schemas.check("bench", json_document.document("bench", found.figures(), None, ()))


def test_a_row_says_what_it_cannot_come_below(result: Result) -> None:
    assert result.least(COLD) == 3.75  # checks beside scripts on one core
    assert replace(result, cores=8).least(COLD) == 2.5  # scripts one after the other
    assert result.least(CHANGED) == 1.5  # all of its packages are checked before one is unpacked
    assert replace(result, cores=8).least(CHANGED) == 0.625
    assert result.least(LOAD) == 3.0  # the engine's own time
    assert result.least(README) == 3.75  # the engine begins with the image
    assert replace(result, floor={}).least(COLD) == 0
    text = result.as_text()
    assert "0.35 of mmdebstrap's time; it is 0.40; no less than 3.8 s here" in text
    assert "apart: dpkg in dind 0.5 s" in text


@pytest.mark.engine
def test_an_engine_with_a_container_of_ours_is_no_fresh_one(engine: Engine, dind: Built) -> None:
    container = engine.client.containers.create(dind.image_id, "true")
    try:
        with pytest.raises(EngineError, match=f"container {container.short_id} .* has layers of ours"):
            loads._forget(engine, dind)
        assert engine.client.images.get(dind.image_id)
    finally:
        container.remove()


def test_a_command_is_measured_with_all_that_it_starts() -> None:
    burn = "i=0; while [ $i -lt 300000 ]; do i=$((i + 1)); done"
    found = build._run(["sh", "-c", f"sh -c '{burn}'; sleep 0.3"])
    assert found.seconds > 0.3
    assert found.cpu > 0
    assert found.memory > 100_000


def test_a_command_is_measured_to_the_line_that_tells() -> None:
    script = "echo hello from level 1; echo hello from level 2; sleep 1; echo hello from level 2 again"
    found = build._run(["sh", "-c", script], "hello from level 2")
    assert 0 < found.seconds < 0.9
    assert build._run(["sh", "-c", script], "hello from level 3").seconds > 1
    with pytest.raises(CommandError):
        build._run(["sh", "-c", "echo hello from level 2; exit 3"], "hello from level 2")


def test_what_cannot_be_measured(project: Project) -> None:
    with pytest.raises(DindkitError, match="0 pairs cannot be measured"):
        verb.run(project, Progress(quiet=True), "build", pairs=0)
