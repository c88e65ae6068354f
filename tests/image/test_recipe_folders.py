"""Whether a path or a name leads to a recipe, what images may be called, and how `init` begins one."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from dindkit.errors import RecipeError
from dindkit.image import new_recipe, recipe
from dindkit.progress import Progress
from tests.support.author import RUNNER, Author


def test_parents_that_go_round(author: Author) -> None:
    author.write("a", 'parent = "../b"\n')
    author.write("b", 'parent = "../link"\n')
    (author.folder / "link").symlink_to("a")
    for name in ("a", "b", "link"):
        with pytest.raises(RecipeError, match="are each other's parent"):
            author.lock(str(author.folder / name))
    author.write("self", 'parent = "./"\n')
    with pytest.raises(RecipeError, match=r"The recipe self is its own parent\. Correct parent in "):
        author.lock(str(author.folder / "self"))


@pytest.mark.parametrize(
    ("folder", "line", "said"),
    [
        ("app", "", 'dindkit has an image called app itself.* name = "my-app"'),
        ("fine", 'name = "base"', "dindkit has an image called base itself"),
        ("My Runner", "", "'My Runner', the name of the folder, cannot be the name of an image"),
        ("läufer", "", "cannot be the name of an image"),
        ("fine", 'name = "a..b"', r"'a\.\.b' cannot be the name of an image"),
        ("fine", 'name = "a-"', "cannot be the name"),
        ("fine", 'name = ""', "cannot be the name"),
        ("fine", "name = 'a\nb'".replace("\n", "/"), "cannot be the name"),
        ("x" * 129, "", "cannot be the name"),
        ("fine", "name = 5", "name is not a string"),
        ("fine", "folder = '/'", "folder is not a key of a recipe"),
        ("fine", "outside = true", "outside is not a key of a recipe"),
        ("fine", "pakcages = []", "pakcages is not a key of a recipe .did you mean packages"),
        ("fine", "essential = 'yes'", "essential is neither true nor false"),
    ],
)
def test_names(author: Author, folder: str, line: str, said: str) -> None:
    path = author.write(folder, f'parent = "base"\n{line}\n')
    with pytest.raises(RecipeError, match=said):
        recipe.load(author.project, path)


def test_a_name_of_ones_own_is_that_of_the_image_and_the_lock(author: Author) -> None:
    path = author.write("Läufer Nr. 1", f'name = "runner-1"\n{RUNNER}')
    author.lock(path)
    assert author.build(path).reference == "dindkit/runner-1:trixie"
    Path(path, "image.toml").write_text(f'name = "runner-2"\n{RUNNER}')
    with pytest.raises(RecipeError, match=r"is the lock of runner-1 .*run: invoke lock '.*Nr. 1'"):
        author.build(path)


def test_an_image_does_not_stand_over_another_of_its_name(author: Author) -> None:
    author.write("below", 'parent = "base"\nname = "same"\n')
    path = author.write("above", 'parent = "../below"\nname = "same"\n')
    with pytest.raises(RecipeError, match="stands over another image called same"):
        author.lock(path)


def test_what_is_no_recipe(author: Author, monkeypatch: pytest.MonkeyPatch) -> None:
    path = author.write("my-runner", RUNNER)
    (author.folder / "dangling").symlink_to("nowhere")
    (author.folder / "round").symlink_to("round")
    monkeypatch.chdir(author.folder)
    for reference, said in {
        "./nix": r"There is no folder \./nix",
        "my-runner": r"no recipe for an image 'my-runner'. The folder here is \./my-runner",
        "./my-runner/image.toml": r"is a recipe's file. Give its folder: \./my-runner",
        "..": "has no image.toml",
        "./dangling": r"There is no folder \./nowhere",
        "./round": "has no image.toml|no folder",
        "/": "/ has no image.toml",
        "./" + "x" * 5000: "no folder|no image.toml",
        "./a\0b": "is no path",
    }.items():
        with pytest.raises(RecipeError, match=said):
            recipe.load(author.project, reference)
    author.write("child", 'parent = "my-runner"\n')
    with pytest.raises(RecipeError, match=r"child/image.toml: parent names my-runner, .* is \.\./my-runner"):
        recipe.load(author.project, "./child")
    assert recipe.load(author.project, path).name == "my-runner"


def test_a_path_into_images_is_the_name(author: Author) -> None:
    made = recipe.load(author.project, str(author.project.images / "app"))
    assert (made.name, made.outside, made.reference) == ("app", False, "app")


def test_init(author: Author, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(author.folder)
    write = partial(new_recipe.write, author.project, Progress(author.said))
    write(Path("My Runner"), "base", ["tool", "tool"])
    assert "invoke lock './My Runner' && invoke build './My Runner'" in author.said.getvalue()
    made = recipe.load(author.project, "./My Runner")
    assert (made.name, made.parent, made.packages) == ("my-runner", "base", ("tool",))
    before = Path("My Runner/image.toml").read_bytes()
    with pytest.raises(RecipeError, match=r"There is a recipe at My Runner/image.toml already"):
        write(Path("My Runner"), "base", [])
    assert Path("My Runner/image.toml").read_bytes() == before
    write(Path("sub/app"), "./My Runner", [])
    over = recipe.with_parents(author.project, "sub/app")
    assert [one.name for one in over] == ["base", "my-runner", "my-app"]
    write(Path("日本"), "", [])
    made = recipe.load(author.project, "./日本")
    assert (made.name, made.parent, made.essential) == ("image", "", True)
    for folder, parent, package, said in (
        ("x", "bsae", [], "Did you mean base"),
        ("x", "./nix", [], "no folder"),
        ("x", "base", ["a b"], "'a b' is no package name"),
    ):
        with pytest.raises(RecipeError, match=said):
            write(Path(folder), parent, package)
        assert not Path(folder).exists()
    Path("dangling").mkdir()
    Path("dangling/image.toml").symlink_to("elsewhere")
    with pytest.raises(RecipeError, match="already"):
        write(Path("dangling"), "base", [])
