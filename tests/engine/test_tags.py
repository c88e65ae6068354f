"""`build --tag`: the engine knows the image by these names, as a real docker would have named it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dindkit.engine import build_and_load, images
from dindkit.engine.discover import Engine
from dindkit.errors import DindkitError
from dindkit.formats import image_name
from dindkit.image.build import Built
from dindkit.image.build_options import BuildOptions
from dindkit.progress import Progress
from dindkit.project import Project
from tests.formats.test_image_name import NAMES, WRONG

TAGS = ("team/named-by-a-test:1", "localhost:5000/named-by-a-test")


def test_the_loaded_image_gets_the_names(
    engine: Engine, project: Project, base: Built, capsys: pytest.CaptureFixture[str]
) -> None:
    options = BuildOptions(image="base", suite=base.inputs.lock.suite)
    found: dict[str, object] = {}
    try:
        build_and_load.run(project, options, Progress(quiet=True), found, tags=[*TAGS, TAGS[0]])
        assert found["loaded_into"] == engine.host
        assert found["tags"] == [TAGS[0], f"{TAGS[1]}:latest"]
        names = set(engine.client.images.get(base.reference).tags)
        assert {base.reference, TAGS[0], f"{TAGS[1]}:latest"} <= names
    finally:
        for tag in TAGS:
            if images.find(engine, tag):
                engine.client.images.remove(tag)
    assert capsys.readouterr().out == f"built {base.reference} {base.image_id}\n"


@pytest.mark.parametrize("name", NAMES)
def test_the_engine_shows_a_name_as_we_do(engine: Engine, base: Built, name: str) -> None:
    shown = str(image_name.parse(name))
    engine.client.api.tag(base.reference, *name.rsplit(":", 1) if ":" in name.rpartition("/")[2] else (name,))
    try:
        assert shown in engine.client.images.get(base.reference).tags
    finally:
        engine.client.images.remove(name)


#: The engine's API takes name and tag apart; of a host with `_` it makes a folder.
OTHERWISE = {"", "team/dind:1:2", "ho_st.example/dind"}


@pytest.mark.parametrize("name", [name for name in WRONG if name not in OTHERWISE and "@" not in name])
def test_the_engine_refuses_what_we_refuse(engine: Engine, base: Built, name: str) -> None:
    repository, _, tag = name.rpartition(":") if ":" in name else (name, "", "latest")
    with pytest.raises(Exception, match=r"invalid reference|invalid tag|repository name"):
        engine.client.api.tag(base.reference, repository, tag or ".")


def test_a_wrong_name_is_refused_before_anything_is_built(tmp_path: Path) -> None:
    nowhere = Project(tmp_path, tmp_path, tmp_path)
    with pytest.raises(DindkitError, match="'team/X' is no name of an image"):
        build_and_load.run(nowhere, BuildOptions(), Progress(quiet=True), {}, tags=["good", "team/X"])
    assert not list(tmp_path.iterdir())
