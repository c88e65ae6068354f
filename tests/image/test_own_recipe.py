"""Recipes outside images/: where their locks lie, whom they stand over, and what they are called."""

from __future__ import annotations

import os
import shutil
import tracemalloc
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from dindkit.errors import EngineError, RecipeError
from dindkit.formats.contents import ContentStore
from dindkit.formats.tree import Tree
from dindkit.image import build_options, image_config, own_files, recipe, rootfs, seal
from dindkit.image.build_options import BuildOptions
from dindkit.image.expected_ids import DifferentError
from dindkit.progress import Progress
from dindkit.review import against
from dindkit.review.dpkg_database import PathResolver
from dindkit.review.file_origins import FileOrigin, of_recipes
from dindkit.tools import list_images
from tests.support.author import LOCK, RUNNER, Author


def files_in(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_recipe_anywhere_is_locked_built_and_sealed(author: Author) -> None:
    before = files_in(author.project.root)
    runner = author.write("my-runner", RUNNER, rootfs__usr__bin__greet="#!/bin/sh\necho hello\n")
    with pytest.raises(
        RecipeError, match=r"no lock at .*parents/base.*lock.* Run: invoke lock '.*/a folder/my-runner'"
    ):
        author.build(runner)
    author.lock(runner)
    assert author.locks() == [f"my-runner/parents/base/{LOCK}", f"my-runner/{LOCK}"]
    built = author.build(runner)
    assert built.reference == "dindkit/my-runner:trixie"
    assert (
        f"names no ids to compare with. To write them: invoke lock '{runner}' --seal"
        in author.said.getvalue()
    )
    author.seal(runner)
    assert author.build(runner, frozen=True).image_id == built.image_id
    Path(runner, "rootfs/usr/bin/greet").write_text("#!/bin/sh\necho goodbye\n")
    with pytest.raises(DifferentError, match=r"invoke lock '.*my-runner' --seal"):
        author.build(runner, frozen=True)
    left = {path for path in files_in(author.project.root) if author.project.state not in path.parents}
    cached = {path for path in left if author.project.cache in path.parents}
    assert left - cached == {path for path in before if path in left - cached}
    assert all(path.read_bytes() == before[path] for path in left - cached)


def test_the_image_is_the_same_wherever_it_lies(author: Author, monkeypatch: pytest.MonkeyPatch) -> None:
    author.write("my-base", 'parent = "base"\n', rootfs__srv__one="1")
    runner = author.write("my-runner", 'parent = "../my-base"\npackages = ["tool"]\n')
    author.lock(runner)
    assert author.locks() == [f"my-base/parents/base/{LOCK}", f"my-base/{LOCK}", f"my-runner/{LOCK}"]
    built = author.build(runner)
    author.seal(runner)
    shutil.copytree(author.folder, author.folder.parent / "elsewhere ' \"")
    monkeypatch.chdir(author.folder.parent / "elsewhere ' \"")
    (author.folder.parent / "link").symlink_to("elsewhere ' \"/my-runner")
    for path in ("my-runner/", "./my-runner", "../link", "my-base/../my-runner"):
        assert author.build(path, frozen=True).image_id == built.image_id
    monkeypatch.chdir("my-runner")
    assert author.build(".", frozen=True).image_id == built.image_id


def test_what_stands_over_the_same_recipe_moves_with_it(author: Author) -> None:
    base = author.write("my-base", 'parent = "base"\n')
    one = author.write("one", 'parent = "../my-base"\npackages = ["tool"]\n')
    author.write("broken", "packages = 5")
    author.lock(one)
    Path(base, "image.toml").write_text('parent = "base"\npackages = ["greeter"]\n')
    author.lock(base)
    author.build(one)
    far = author.write("other/far", 'parent = "../../my-base"\n')
    author.lock(far)
    Path(base, "image.toml").write_text('parent = "base"\n')
    author.lock(one)
    with pytest.raises(RecipeError, match=r"over another lock of my-base. .*run: invoke lock '.*/far'"):
        author.build(far)


def test_over_nothing(author: Author) -> None:
    own = author.write("alone", "essential = true\n")
    author.lock(own)
    assert author.locks() == [f"alone/{LOCK}"]
    author.build(own)


def test_configuration_is_as_in_the_parent_but_for_what_is_said(
    author: Author, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = author.write(
        "below",
        'parent = "base"\n[config]\nentrypoint = ["/bin/sh"]\ncmd = ["-c"]\nenv = { A = "1", B = "2" }\n'
        'ports = ["80/tcp"]\nworkdir = "/srv"\n[config.healthcheck]\ntest = ["CMD", "true"]\n',
    )
    above = author.write("above", 'parent = "../below"\n[config]\nenv.B = "3"\nports = ["81/tcp"]\n')
    author.lock(below)
    author.lock(above)
    made = image_config.config(build_options.resolve(author.project, BuildOptions(above))[-1])
    assert (made.entrypoint, made.cmd, made.workdir) == (("/bin/sh",), ("-c",), "/srv")
    assert made.env == {"A": "1", "B": "3"}
    assert made.ports == ("80/tcp", "81/tcp")
    assert made.healthcheck is not None
    Path(above, "image.toml").write_text('parent = "../below"\n[config]\nentrypoint = ["tool"]\n')
    made = image_config.config(build_options.resolve(author.project, BuildOptions(above))[-1])
    assert (made.entrypoint, made.cmd) == (("tool",), ())


def test_a_report_calls_it_by_its_folder(author: Author, tmp_path: Path) -> None:
    path = author.write("my-runner", RUNNER, rootfs__srv__one="1")
    author.lock(path)
    chain = build_options.resolve(author.project, BuildOptions(path))
    assert "authors" not in str(image_config.labels(chain[-1]))
    assert image_config.labels(chain[0])["org.opencontainers.image.authors"] == "the dindkit project"
    with closing(ContentStore(tmp_path)) as store:
        found = of_recipes(chain, PathResolver(Tree(store)))
    assert found["srv/one"] == FileOrigin("recipe", "my-runner/rootfs/srv/one")


def test_what_an_installed_package_brings_is_not_for_writing(
    author: Author, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dindkit.project.INSTALLED", author.project.root)
    before = files_in(author.project.images)
    for command in (author.lock, author.seal):
        with pytest.raises(RecipeError, match=r"of app comes with .*: invoke init my-app"):
            command("app")
    path = author.write("my-runner", 'parent = "app"\n')
    author.lock(path)
    author.seal(path)
    author.build(path, frozen=True)
    assert files_in(author.project.images) == before


def test_a_first_lock_keeps_the_parents_ids_where_nothing_has_changed(author: Author) -> None:
    author.tiny.lock("base")
    seal.seal(author.project, BuildOptions("base"), Progress(quiet=True))
    path = author.write("my-runner", RUNNER)
    author.lock(path)
    assert (
        Path(path, "parents/base", LOCK).read_bytes() == (author.project.images / "base" / LOCK).read_bytes()
    )


def test_a_packed_rootfs_says_what_a_wheel_drops(author: Author) -> None:
    app = author.project.images / "app"
    folder = app.with_name("packed")
    shutil.copytree(app, folder)
    try:
        (folder / "rootfs/usr/bin").mkdir(parents=True)
        (folder / "rootfs/usr/bin/one").write_text("1")
        (folder / "rootfs/usr/bin/two").write_text("2")
        (folder / "rootfs.json").write_text('{"links": {"usr/a": "bin/one"}, "executable": ["usr/bin/two"]}')
        (folder / "rootfs/usr/bin/one").chmod(0o777)
        made = recipe.load(author.project, "packed")
        said = [(one.name, one.mode, one.link) for one in rootfs.files(made)]
        assert said == [("usr/a", 0o777, "bin/one"), ("usr/bin/one", 0o644, ""), ("usr/bin/two", 0o755, "")]
        assert [one.mode for one in rootfs.files(replace(made, outside=True))] == [0o755, 0o644]
        (folder / "rootfs.json").write_text("[]")
        with pytest.raises(RecipeError, match=r"rootfs.json cannot be read"):
            rootfs.files(made)
    finally:
        shutil.rmtree(folder)


def test_a_package_that_the_lock_does_not_have_is_named_before_anything_is_built(author: Author) -> None:
    path = author.write("my-runner", RUNNER)
    author.lock(path)
    Path(path, "image.toml").write_text('parent = "base"\npackages = ["greeter", "tool"]\n')
    said = r"my-runner asks for greeter, which its lock does not have\. Run: invoke lock '.*/my-runner'$"
    with pytest.raises(RecipeError, match=said):
        build_options.resolve(author.project, BuildOptions(path))
    Path(path, "image.toml").write_text('parent = "base"\npackages = ["greter"]\n')
    with pytest.raises(RecipeError, match=r"no package greter in debian\. Did you mean greeter\?$"):
        author.lock(path)


def test_a_lock_of_another_recipe_is_told_from_ones_own(author: Author) -> None:
    path = author.write("my-runner", RUNNER)
    author.lock(path)
    shutil.copytree(path, author.folder / "copy")
    with pytest.raises(
        RecipeError, match=rf"copy/{LOCK} is the lock of my-runner for .*, not of copy for trixie on"
    ):
        build_options.resolve(author.project, BuildOptions(str(author.folder / "copy")))
    Path(path, LOCK).write_text("")
    with pytest.raises(RecipeError, match=rf"my-runner/{LOCK} is not a lock: it has no identity\."):
        build_options.resolve(author.project, BuildOptions(path))


def test_what_cannot_be_copied_from_a_rootfs_is_named(author: Author) -> None:
    """Left out without a word, it would be missing in the image."""
    path = author.write("my-runner", RUNNER, rootfs__srv__one="1")
    made = recipe.load(author.project, path)
    os.mkfifo(f"{path}/rootfs/srv/pipe")
    with pytest.raises(RecipeError, match=r"rootfs/srv/pipe is neither a file nor a folder nor a link"):
        rootfs.files(made)
    Path(path, "rootfs/srv/pipe").unlink()
    assert [one.name for one in rootfs.files(made)] == ["srv/one"]
    Path(path, "rootfs").rename(Path(path, "elsewhere"))
    assert rootfs.files(made) == []
    Path(path, "rootfs").touch()
    with pytest.raises(RecipeError, match=r"my-runner/rootfs is no folder"):
        rootfs.files(made)


def test_a_file_below_a_link_or_a_file_is_sent_to_the_right_place(author: Author) -> None:
    path = author.write("my-runner", RUNNER, rootfs__bin__tool2="1")
    author.lock(path)
    said = (
        r"my-runner has a file /bin/tool2, and /bin is a link to usr/bin in the image\. Put it at /usr/bin/t"
    )
    with pytest.raises(RecipeError, match=said):
        author.build(path)
    shutil.rmtree(f"{path}/rootfs")
    author.write("my-runner", RUNNER, rootfs__usr__bin__tool__x="1")
    with pytest.raises(
        RecipeError, match=r"/usr/bin/tool/x, and /usr/bin/tool is a file in the image, no folder"
    ):
        author.build(path)


def test_where_no_repository_is_it_is_said(author: Author) -> None:
    path = author.write("my-runner", RUNNER)
    author.lock(path)
    with pytest.raises(
        EngineError, match=r"no revision of this project \(.*/my-runner is in no git repository\)"
    ):
        against.examine(author.project, BuildOptions(path), "HEAD", Progress(author.said))


def test_a_list_says_that_an_image_is_of_a_recipe_elsewhere(
    author: Author, capsys: pytest.CaptureFixture[str]
) -> None:
    path = author.write("my-runner", RUNNER)
    author.lock(path)
    author.build(path)
    list_images.run(author.project, Progress(author.said), {})
    lines = {one.split(":")[0]: one for one in capsys.readouterr().out.splitlines()}
    assert lines["dindkit/my-runner"].endswith("of a recipe elsewhere")
    assert not lines["dindkit/base"].endswith("elsewhere")


def test_a_rootfs_that_leads_elsewhere(author: Author, tmp_path: Path) -> None:
    """A recipe that somebody else wrote must not have files of this machine copied into an image."""
    runner = author.write("my-runner", RUNNER)
    author.lock(runner)
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "key").write_text("mine")
    Path(runner, "rootfs").symlink_to(tmp_path / "secrets")
    with pytest.raises(RecipeError, match="rootfs is a symbolic link, where the recipe's own files"):
        author.build(runner)


def test_a_large_file_of_a_recipe_is_not_held_in_memory(author: Author, contents: ContentStore) -> None:
    runner = author.write("my-runner", RUNNER, rootfs__srv__large="x")
    author.lock(runner)
    (made,) = build_options.resolve(author.project, BuildOptions(runner))[-1:]
    size = 300_000_000
    with Path(runner, "rootfs/srv/large").open("wb") as file:
        file.truncate(size)
    tracemalloc.start()
    try:
        tree = own_files.overlay(Tree(contents), made)
        (row,) = rootfs.listed(made.recipe)
        assert tracemalloc.get_traced_memory()[1] < size / 10
    finally:
        tracemalloc.stop()
    assert tree.entries["srv/large"].size == size
    assert tree.entries["srv/large"].digest == row[2]
