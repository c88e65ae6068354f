"""A recipe that makes no sense ends in a sentence that names file and key."""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dindkit.errors import RecipeError
from dindkit.image import build_inputs, recipe
from dindkit.image.recipe import Config, Engine, Health, Recipe, User
from dindkit.project import Project

Writer = Callable[..., Project]


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    def put(text: str, **files: str) -> Project:
        folder = tmp_path / "images" / "app"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "image.toml").write_text(text)
        for path, content in files.items():
            place = folder / "rootfs" / path.replace("__", "/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(content)
        return Project(tmp_path, tmp_path / "state", tmp_path / "cache")

    return put


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "essential = true\npackage = []",
            r"image\.toml: package is not a key of a recipe .did you mean packages\?.\. C",
        ),
        ("parent = 'base'\n[users.mate]\nuid = 2376\ngid = 237", "users.mate.uid is not from 1 to 999"),
        ("parent = 'base'\n[users.mate]\nuid = 237\ngid = 1000", "users.mate.gid is not from 1 to 999"),
        ("parent = 'base'\n[users.mate]\ngid = 237", "users.mate.uid is not from 1 to 999"),
        ("parent = 'base'\n[users.mate]\nuid = 1000\ngid = 999", "users.mate.uid is not from 1 to 999"),
        (
            "parent = 'base'\n[folders]\n'/x' = '755'\n[owners]\n'/x' = 'me'",
            "gives 'x' to 'me', which are not",
        ),
        ("parent = 'base'\n[capabilities]\n'/x' = 'cap_root=ep'", "there is no capability cap_root"),
        ("parent = 'base'\n[capabilities]\n'/x' = 'cap_chown+ep'", "the form is cap_NAME,cap_NAME=ep"),
        ("parent = 'base'\n[groups]\n\"a\\nb\" = 5", r"'a\\nb' is not a name for a user or a group"),
        ("parent = 'base'\n[groups]\n'a:b' = 5", "'a:b' is not a name for a user or a group"),
        ("parent = 'base'\n[users.'a:b']\nuid = 5\ngid = 5", "'a:b' is not a name for a user or a group"),
        ("parent = 'base'\n[users.a]\nuid = 5\ngid = 5\nhome = '/a:/b'", "home is '/a:/b', which is not"),
        ("parent = 'base'\n[users.a]\nuid = 5\ngid = 5\nshell = \"/a\\nb\"", "shell is .* which is not"),
        ("parent = 'base'\n[users.a]\nuid = 5\ngid = 5\nsubids = [-1, 5]", "subids is not .first, count"),
        ("parent = 'base'\n[users.a]\nuid = 5\ngid = 5\nsubids = [true, 5]", "subids is not .first, count"),
        ("essential = true\n[config]\nentrypont = []", r"config\.entrypont .* \(did you mean entrypoint"),
        ("essential = true\n[config]\nenv = 'x'", r"config\.env is not a table"),
        ("essential = true\n[config]\nenv.A = 1", r"config\.env\.A is not a string"),
        ("essential = true\n[config]\ncmd = 'x'", r"config\.cmd is not a list of strings"),
        ("essential = true\n[config]\nhealthcheck = 5", r"config\.healthcheck is not a table"),
        (
            "essential = true\n[config]\nhealthcheck.retries = -1",
            r"config\.healthcheck\.retries is not a whole",
        ),
        ("essential = true\n[slim]\nexclude = 'x'", r"slim\.exclude is not a list"),
        (
            "essential = true\n[engines.'docker.io']\narchive = 1",
            r'engines\."docker\.io"\.archive is not a string',
        ),
        ("essential = true\n[folders]\n'/x' = 755", r'folders\."/x" is not a string'),
        ("parent = 'base'\n[users.a]\nuid = 'x'", r"users\.a\.uid is not a whole number"),
        ("essential = true\npackages = 'apt'", "packages is not a list of strings"),
        ("essential = true\npackages = ['apt', 'apt']", "packages names a package twice"),
        ("essential = true\npackages = ['a b']", "'a b', which is no package name"),
        ("essential = true\n[folders]\n'/x' = '0999'", "'0999', not a mode"),
        ("essential = true\n[folders]\n'x' = '0755'", "'x' is not an absolute path"),
        ("essential = true\n[links]\n'/../x' = 'y'", "is not an absolute path"),
        ("essential = true\n[groups]\ndocker = 5", "groups and users need a parent"),
        ("essential = true\n[config]\nentrypoint = ['run.sh']", r"rootfs/usr/local/bin/run\.sh is missing"),
        ("packages = ['apt']", "neither a parent nor"),
        ("parent = 'other'", "names other, for which there is no recipe"),
        ("essential = [", "is not TOML"),
        (f"essential = {'1' * 5000}", "is not TOML"),
        (f"essential = {'[' * 500}{']' * 500}", "is not TOML"),
    ],
)
def test_a_wrong_recipe_is_named_with_its_key(write: Writer, text: str, said: str) -> None:
    gc.collect()  # what others have left would be finalized where a deep list has used up the stack
    with pytest.raises(RecipeError, match=said):
        recipe.load(write(text), "app")


def test_a_recipe_that_is_not_there(write: Writer) -> None:
    with pytest.raises(RecipeError, match=r"no recipe for an image 'other'.*app"):
        recipe.load(write("essential = true"), "other")
    with pytest.raises(RecipeError, match=r"no recipe for an image '\.app'"):
        recipe.load(write("essential = true"), ".app")


def test_an_unknown_engine_names_the_known(write: Writer) -> None:
    made = recipe.load(write("essential = true\n[engines.one]\npackages = []"), "app")
    with pytest.raises(RecipeError, match=r"no engine 'two'.*one"):
        made.engine("two")


def test_parents_that_go_round(write: Writer) -> None:
    with pytest.raises(RecipeError, match=r"recipe app is its own parent\. Correct parent in "):
        recipe.with_parents(write("parent = 'app'"), "app")


def test_an_entrypoint_in_rootfs_is_enough(write: Writer) -> None:
    project = write(
        "essential = true\n[config]\nentrypoint = ['run.sh']", **{"usr__local__bin__run.sh": "#!/bin/sh\n"}
    )
    assert recipe.load(project, "app").config.entrypoint == ("run.sh",)


def test_an_entrypoint_of_the_parents_is_enough(write: Writer) -> None:
    project = write("essential = true", **{"usr__local__bin__run.sh": "#!/bin/sh\n"})
    child = project.images / "child"
    child.mkdir()
    (child / "image.toml").write_text("parent = 'app'\n[config]\nentrypoint = ['run.sh']")
    assert recipe.load(project, "child").config.entrypoint == ("run.sh",)


def test_the_rootless_recipe_is_that_of_dind_for_a_user() -> None:
    dind, rootless = (recipe.load(Project.here(), name).config for name in ("dind", "dind-rootless"))
    env = {**dind.env, "XDG_RUNTIME_DIR": "/run/user/1000"}
    volumes = ("/home/rootless/.local/share/docker",)
    assert rootless == replace(dind, user="rootless", env=env, volumes=volumes, labels={})


def test_the_committed_recipes_honour_the_contract() -> None:
    dind = recipe.load(Project.here(), "dind")
    assert dind.config.entrypoint == ("dockerd-entrypoint.sh",)
    assert dind.config.cmd == ()
    assert dind.config.volumes == ("/var/lib/docker",)
    assert dind.config.ports == ("2375/tcp", "2376/tcp")
    assert dind.config.env["DOCKER_TLS_CERTDIR"] == "/certs"
    assert dind.groups["docker"] == 2375
    assert dind.users["dockremap"].subids == (165536, 65536)
    assert dind.folders == {"certs": 0o1777, "certs/client": 0o1777}


def test_ids_are_hashed_from_values_and_from_no_name_of_a_class() -> None:
    """Ids hang on it: a class that is renamed must not move them, and every value must show."""
    made = Recipe(
        name="app",
        packages=("a", "b"),
        engines={"x": Engine(packages=("c",))},
        users={"u": User(uid=1)},
        config=Config(healthcheck=Health(test=("CMD",))),
        folder=Path("/somewhere"),
    )
    text = json.dumps(build_inputs.values(made), sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert digest == "17c1163cb5f1273e8b25757affc33d822489ebbc0eb9fb8510a269b8ef8e303f"
    assert build_inputs.values(replace(made, folder=Path("/elsewhere"))) == build_inputs.values(made)
    assert build_inputs.values(replace(made, packages=("a",))) != build_inputs.values(made)
    assert build_inputs.values(replace(made, owners={"a": "u"})) != build_inputs.values(made)
    assert build_inputs.values(replace(made, capabilities={"a": "b"})) != build_inputs.values(made)


@pytest.mark.parametrize("word", ["x" * 300, "x" * 5000])
def test_a_name_that_no_file_system_takes(write: Writer, word: str) -> None:
    project = write(f'essential = true\n[config]\nentrypoint = ["{word}"]\n')
    with pytest.raises(RecipeError, match="is missing"):
        recipe.load(project, "app")
    project = write(f'parent = "{word}"\n')
    with pytest.raises(RecipeError, match="for which there is no recipe"):
        recipe.load(project, "app")


def test_a_file_with_a_byte_order_mark_is_read_and_other_encodings_are_named(write: Writer) -> None:
    file = write("essential = true").images / "app/image.toml"
    file.write_bytes(b"\xef\xbb\xbfessential = true\r\n")
    project = Project(file.parents[2], file, file)
    assert recipe.load(project, "app").essential
    file.write_bytes("essential = true".encode("utf-16"))
    with pytest.raises(RecipeError, match=r"image\.toml: the file is not UTF-8, at byte 0\."):
        recipe.load(project, "app")


def test_a_link_that_leads_nowhere_is_named(write: Writer) -> None:
    file = write("essential = true").images / "app/image.toml"
    file.unlink()
    file.symlink_to("/nowhere")
    with pytest.raises(RecipeError, match=r"app/image\.toml is a link that leads to no file"):
        recipe.load(Project(file.parents[2], file, file), str(file.parent))
