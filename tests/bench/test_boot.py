"""The bench measures what it says, and leaves nothing behind; the figures themselves are for people."""

from __future__ import annotations

import json

import pytest

from dindkit import json_document
from dindkit.bench import boot, verb
from dindkit.engine.discover import Engine
from dindkit.errors import DindkitError
from dindkit.progress import Progress
from dindkit.project import Project
from tests.support import schemas

pytestmark = pytest.mark.engine


def test_boot(engine: Engine, project: Project) -> None:
    before = {str(one.id) for one in engine.client.containers.list(all=True)}
    result = verb.run(project, Progress(quiet=True), "boot", pairs=1)
    assert {str(one.id) for one in engine.client.containers.list(all=True)} == before
    assert not list(project.state.glob("bench-*"))
    found = result.figures()
    schemas.check("bench", json.loads(json.dumps(json_document.document("bench", found, None, ()))))
    for pairs in (found["tls"], found["plain"]):
        assert pairs["ratio"] == pytest.approx(pairs["image"][0] / pairs["bare"][0])
    assert list(found["stop"]["exit_codes"]) == [0] * boot.STOPS
    text = result.as_text()
    assert f"{found['tls']['ratio']:.2f}" in text
    assert text.endswith("exit code 0")


def test_what_cannot_be_measured(project: Project) -> None:
    with pytest.raises(DindkitError, match=r"no bench speed.*boot"):
        verb.run(project, Progress(quiet=True), "speed")
    with pytest.raises(DindkitError, match="0 pairs cannot be measured"):
        verb.run(project, Progress(quiet=True), "boot", pairs=0)
