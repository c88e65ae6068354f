"""docs/recipes.md says of each key of image.toml what the code does, and its examples are recipes."""

from __future__ import annotations

import re
import tomllib
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

import pytest

import tasks
from dindkit.image import recipe
from dindkit.project import Project

PAGE = (Path(__file__).parents[1] / "docs/recipes.md").read_text()

TABLES: dict[str, Any] = {
    "image.toml": recipe.Recipe,
    "slim": recipe.Slim,
    "users": recipe.User,
    "engines": recipe.Engine,
    "config": recipe.Config,
    "config.healthcheck": recipe.Health,
}
#: The type of a field -> that of the key.
TYPES = {
    "str": "string",
    "bool": "true or false",
    "int": "whole number",
    "tuple[str, ...]": "list of strings",
    "tuple[int, ...]": "first and count",
    "Mapping[str, str]": "table of strings",
    "Mapping[str, int]": "table of whole numbers",
    "Mapping[str, Engine]": "tables",
    "Mapping[str, User]": "tables",
    "Slim": "table",
    "Config": "table",
    "Health | None": "table",
}
#: What the code makes of an absent key where it is no plain default; tests/image/test_recipe.py has these.
OTHERWISE = {"name": "the folder's name", "title": "the name", "uid": "required", "gid": "required"}


def section(name: str) -> str:
    found = re.search(rf"^##+ {re.escape(name)}\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, name
    return found[1]


def rows(name: str) -> dict[str, list[str]]:
    cells = [
        re.split(r" \| ", line.strip("| ")) for line in section(name).splitlines() if line.startswith("| `")
    ]
    return {row[0].strip("`"): row[1:] for row in cells}


def default(field: Field[Any]) -> str:
    value = field.default if field.default is not MISSING else field.default_factory()  # type: ignore[operator]
    if value is None:
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, str):
        return f'`"{value}"`'
    if isinstance(value, int):
        return f"`{value}`"
    return "`[]`" if isinstance(value, tuple) else "`{}`"


def keys(kind: Any) -> list[Field[Any]]:
    return [field for field in fields(kind) if field.name not in ("folder", "outside")]


@pytest.mark.parametrize("name", TABLES)
def test_every_key_is_there_with_its_type_and_default(name: str) -> None:
    said = rows(name)
    assert list(said) == [field.name for field in keys(TABLES[name])]
    for field in keys(TABLES[name]):
        kind = "table of strings" if field.name == "folders" else TYPES[str(field.type)]
        wanted = OTHERWISE.get(field.name, default(field))
        assert said[field.name][:2] == [kind, wanted], field.name
        assert len(said[field.name]) == 3, field.name


def examples() -> list[str]:
    found = re.findall(r"^```toml\n(.*?)^```", PAGE.partition("## Archives")[0], re.MULTILINE | re.DOTALL)
    assert len(found) == 5
    return found


@pytest.mark.parametrize("text", examples(), ids=lambda text: text.split()[0])
def test_every_example_is_a_recipe(tmp_path: Path, text: str) -> None:
    if "parent =" not in text:
        text = f'parent = "dind"\n{text}'
    (tmp_path / "my-runner").mkdir()
    (tmp_path / "my-runner/image.toml").write_text(text)
    made = recipe.load(Project.here(), str(tmp_path / "my-runner"))
    assert made.outside
    assert made.name == "my-runner"


def test_every_key_is_in_an_example() -> None:
    shown = [tomllib.loads(text) for text in examples()]

    def of(*path: str) -> set[str]:
        found: list[Any] = shown
        for name in path:
            found = [one[name] for one in found if name in one]
        return {key for table in found for key in table}

    assert of() >= {field.name for field in keys(recipe.Recipe)}
    assert of("slim") == {field.name for field in keys(recipe.Slim)}
    assert of("users", "runner") == {field.name for field in keys(recipe.User)}
    assert of("engines", "docker.io") == {field.name for field in keys(recipe.Engine)}
    assert of("config") == {field.name for field in keys(recipe.Config)}
    assert of("config", "healthcheck") == {field.name for field in keys(recipe.Health)}


def test_every_verb_on_the_page_exists() -> None:
    said = set(re.findall(r"(?:^|`)dindkit (\w+)", PAGE, re.MULTILINE))
    assert len(said) > 4
    assert said <= set(tasks.namespace.task_names)


def test_absent_keys(tmp_path: Path) -> None:
    (tmp_path / "some-image").mkdir()
    (tmp_path / "some-image/image.toml").write_text('parent = "dind"\n')
    made = recipe.load(Project.here(), f"{tmp_path}/some-image")
    assert (made.name, made.title) == ("some-image", "some-image")
