"""The table of `invoke bench build`: medians, ratios of rounds, and every row with what it may take."""

from __future__ import annotations

import pytest

from dindkit import bench, bench_build, json_document
from dindkit.bench_build import DOCKER_LOAD, LINES, LOAD, MMDEBSTRAP, Result, Run
from dindkit.errors import DindkitError
from dindkit.progress import Progress
from dindkit.project import Project
from tests.support import schemas


@pytest.fixture
def result() -> Result:
    runs = {
        line.name: [Run(2.0, 3.0, 100), Run(4.0, 5.0, 300), Run(30.0, 7.0, 200)] for line in (*LINES, LOAD)
    }
    runs[MMDEBSTRAP] = [Run(10.0, 9.0, 50), Run(10.0, 9.0, 50), Run(60.0, 9.0, 50)]
    runs[DOCKER_LOAD] = [Run(20.0, 1.0, 50)] * 3
    return Result(runs, 5_000_000, 1_000_000, {"decompress": 1.25})


def test_the_table_has_medians_and_ratios_of_rounds(result: Result) -> None:
    text = result.as_text().splitlines()
    assert result.ratio(LINES[0]) == 0.4  # of 0.2, 0.4 and 0.5
    assert "4.00 s    5.00 s  0.35 of mmdebstrap's time; it is 0.40" in text[1]
    rows = [line.name for line in (*LINES, LOAD)]
    assert rows == [row[:40].rstrip() for row in text[1 : 1 + len(rows)]]
    assert "0.50 of docker load's time; it is 0.20" in text[len(rows)]
    assert "largest process of a build: 300 B, at most 400 MB" in text
    assert "image: 1.0 MB compressed, 5.0 MB unpacked" in text
    found = result.figures()
    schemas.check("bench", json_document.document("bench", found, None, ()))
    assert found["ratios"][LINES[0].name] == 0.4
    assert found["runs"][MMDEBSTRAP][2]["seconds"] == 60.0


def test_a_command_is_measured_with_all_that_it_starts() -> None:
    burn = "i=0; while [ $i -lt 300000 ]; do i=$((i + 1)); done"
    found = bench_build._run(["sh", "-c", f"sh -c '{burn}'; sleep 0.3"])
    assert found.seconds > 0.3
    assert found.cpu > 0
    assert found.memory > 100_000


def test_what_cannot_be_measured(project: Project) -> None:
    with pytest.raises(DindkitError, match="0 pairs cannot be measured"):
        bench.run(project, Progress(quiet=True), "build", pairs=0)
