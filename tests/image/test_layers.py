"""What an image's layers follow: packages make one, the recipe's own files another."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from dindkit.errors import DamagedError
from dindkit.formats.contents import ContentStore
from dindkit.formats.image_archive import open_archive
from dindkit.formats.tree import Tree
from dindkit.image import packages_layer, sbom, staging, state_keys
from dindkit.image.build import Built, build
from dindkit.image.build_options import BuildOptions, resolve
from dindkit.image.built import opened
from dindkit.image.image_config import Source
from dindkit.progress import Progress
from dindkit.sandbox.namespaces import Namespaces
from tests.support.build_process import state_with_base
from tests.support.local_project import RECIPE, LocalProject, publish_greeter, tree_of


@pytest.fixture
def nothing_runs(small_project: LocalProject, monkeypatch: pytest.MonkeyPatch) -> None:
    """Build what the test starts from; then no maintainer script may run."""
    small_project.build()
    monkeypatch.setattr(Namespaces, "run", lambda *_: pytest.fail("a maintainer script ran"))


def write(small_project: LocalProject, path: str, text: str) -> Path:
    file = small_project.project.images / "app" / "rootfs" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def recipe(small_project: LocalProject, text: str) -> None:
    (small_project.project.images / "app" / "image.toml").write_text(text)


def sources(built: Built) -> list[str]:
    return [str(one) for one in built.sources]


@pytest.mark.usefixtures("nothing_runs")
def test_an_edited_file_of_the_recipe_runs_nothing_and_downloads_nothing(
    small_project: LocalProject, contents: ContentStore
) -> None:
    before = small_project.build()
    shutil.move(small_project.project.cache, small_project.project.cache.with_name("away"))
    try:
        file = write(small_project, "usr/local/bin/start", "#!/bin/sh\n")
        first = small_project.build()
        file.write_text("#!/bin/sh\nexec true\n")
        second = small_project.build()
    finally:
        shutil.rmtree(small_project.project.cache, ignore_errors=True)
        shutil.move(small_project.project.cache.with_name("away"), small_project.project.cache)
    assert sources(first) == ["base packages", "base files", "app packages", "app files"]
    assert first.layers[:3] == second.layers[:3] == before.layers
    assert tree_of(second, contents).text("usr/local/bin/start") == "#!/bin/sh\nexec true\n"
    with open_archive(second.archive) as archive:
        own = [one.path for one in archive.entries(archive.image.layers[3], contents)]
    assert own == ["usr", "usr/local", "usr/local/bin", "usr/local/bin/start"]
    document = sbom.read(second).decode()
    assert second.image_id in document
    assert "greeter" in document


def test_what_the_packages_layer_depends_on(small_project: LocalProject) -> None:
    def key() -> str:
        return state_keys.packages(
            small_project.project, resolve(small_project.project, BuildOptions(image="app"))[-1]
        )

    recipe(small_project, RECIPE)
    seen = {key()}

    def moved() -> bool:
        count = len(seen)
        seen.add(key())
        return len(seen) > count

    write(small_project, "srv/own", "x")
    recipe(small_project, RECIPE + '[folders]\n"/srv/own2" = "0755"\n[config]\ncmd = ["sh"]\n')
    assert not moved()
    recipe(small_project, RECIPE.replace("/usr/share/doc/*", "/usr/share/info/*"))
    assert moved()
    recipe(small_project, RECIPE + "[groups]\ncrew = 2375\n")
    assert moved()
    recipe(small_project, RECIPE)
    base = small_project.project.images / "base" / "rootfs" / "srv" / "below"
    base.parent.mkdir(parents=True)
    base.write_text("a file of the image below: scripts of packages may read it")
    assert moved()
    base.unlink()
    publish_greeter(small_project, "1.7")
    small_project.lock()
    assert moved()


@pytest.mark.usefixtures("nothing_runs")
def test_a_recipe_of_files_alone_has_one_layer(small_project: LocalProject, contents: ContentStore) -> None:
    recipe(small_project, 'parent = "base"\n[slim]\nexclude = ["/usr/share/x/*"]\n[groups]\ncrew = 2375\n')
    write(small_project, "srv/own", "x")
    small_project.lock()
    built = small_project.build()
    assert sources(built) == ["base packages", "base files", "app files"]
    tree = tree_of(built, contents)
    assert tree.text("srv/own") == "x"
    assert "crew:*:2375:\n" in tree.text("etc/group")
    assert tree.text("etc/dpkg/dpkg.cfg.d/dindkit-app") == "path-exclude=/usr/share/x/*\n"


def test_own_files_over_those_of_packages(small_project: LocalProject, contents: ContentStore) -> None:
    publish_greeter(
        small_project,
        "1.8",
        files={"usr/bin/one": "packaged\n", "etc/hostname": "packaged\n", "srv/linked": "packaged\n"},
        scripts={"postinst": "#!/bin/sh\nln /srv/linked /srv/other\n"},
    )
    small_project.lock()
    write(small_project, "usr/bin/one", "own\n")
    write(small_project, "srv/linked", "own\n")
    write(small_project, "etc/hosts", "of a machine\n")
    write(small_project, "usr/lib/__pycache__/x.pyc", "of a machine\n")
    tree = tree_of(small_project.build(), contents)
    assert tree.text("usr/bin/one") == "own\n"
    assert tree.text("etc/hostname") == "packaged\n"
    assert tree.text("srv/linked") == "own\n"
    assert content(tree, "srv/other") == "packaged\n"
    assert not [path for path in tree.entries if path == "etc/hosts" or "__pycache__" in path]


def content(tree: Tree, path: str) -> str:
    entry = tree.entries[path]
    return tree.text(entry.link if entry.kind == "hardlink" else path)


@pytest.mark.parametrize("name", ["layer.tar", "index.json"])
def test_a_kept_layer_that_is_not_what_it_was(small_project: LocalProject, name: str) -> None:
    made = resolve(small_project.project, BuildOptions(image="app"))[-1]
    small_project.build()
    layer = packages_layer.find(small_project.project, made)
    assert layer is not None
    path = small_project.build().store.path(layer.diff_id).with_name(name)
    good = path.read_bytes()
    bad = good.replace(b"hello", b"h3llo") if name == "layer.tar" else good.replace(b"usr/bin", b"usr/b1n")
    assert bad != good
    path.write_bytes(bad)
    try:
        write(small_project, "srv/more", name)
        with pytest.raises(DamagedError, match=f"{name} is damaged"), opened(small_project.build()) as layout:
            b"".join(layout.stream())
    finally:
        path.write_bytes(good)


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_ids_do_not_depend_on_the_number_of_threads(
    local_project: LocalProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    wanted = local_project.build()
    monkeypatch.setattr(staging, "os", SimpleNamespace(cpu_count=lambda: threads, link=os.link))
    project = replace(local_project.project, state=state_with_base(local_project, tmp_path / "state"))
    built = build(project, BuildOptions(image="app"), Progress(quiet=True))
    assert (built.image_id, built.layers) == (wanted.image_id, wanted.layers)


def test_sources_are_words() -> None:
    assert str(Source("dind", "files")) == "dind files"
