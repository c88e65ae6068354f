"""What an image's layers follow: packages make one, the recipe's own files another."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from dindkit.errors import DamagedError
from dindkit.formats.image_archive import open_archive
from dindkit.formats.tree import Spool, Tree
from dindkit.image import packages_layer, sbom, staging, state_keys
from dindkit.image.build import Built, build
from dindkit.image.built import opened
from dindkit.image.describe import Source
from dindkit.image.order import Order, resolve
from dindkit.progress import Progress
from dindkit.sandbox.namespaces import Namespaces
from tests.image.test_build import publish_greeter, state_with_base, tree_of
from tests.support.world import RECIPE, World


@pytest.fixture
def nothing_runs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Build what the test starts from; then no maintainer script may run."""
    world.build()
    monkeypatch.setattr(Namespaces, "run", lambda *_: pytest.fail("a maintainer script ran"))


def write(world: World, path: str, text: str) -> Path:
    file = world.project.images / "app" / "rootfs" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def recipe(world: World, text: str) -> None:
    (world.project.images / "app" / "image.toml").write_text(text)


def sources(built: Built) -> list[str]:
    return [str(one) for one in built.sources]


@pytest.mark.usefixtures("nothing_runs")
def test_an_edited_file_of_the_recipe_runs_nothing_and_downloads_nothing(world: World, spool: Spool) -> None:
    before = world.build()
    shutil.move(world.project.cache, world.project.cache.with_name("away"))
    try:
        file = write(world, "usr/local/bin/start", "#!/bin/sh\n")
        first = world.build()
        file.write_text("#!/bin/sh\nexec true\n")
        second = world.build()
    finally:
        shutil.rmtree(world.project.cache, ignore_errors=True)
        shutil.move(world.project.cache.with_name("away"), world.project.cache)
    assert sources(first) == ["base packages", "base files", "app packages", "app files"]
    assert first.layers[:3] == second.layers[:3] == before.layers
    assert tree_of(second, spool).text("usr/local/bin/start") == "#!/bin/sh\nexec true\n"
    with open_archive(second.archive) as archive:
        own = [one.path for one in archive.entries(archive.image.layers[3], spool)]
    assert own == ["usr", "usr/local", "usr/local/bin", "usr/local/bin/start"]
    document = sbom.read(second).decode()
    assert second.image_id in document
    assert "greeter" in document


def test_what_the_packages_layer_depends_on(world: World) -> None:
    def key() -> str:
        return state_keys.packages(world.project, resolve(world.project, Order(image="app"))[-1])

    seen = {key()}

    def moved() -> bool:
        count = len(seen)
        seen.add(key())
        return len(seen) > count

    write(world, "srv/own", "x")
    recipe(world, RECIPE + '[folders]\n"/srv/own2" = "0755"\n[config]\ncmd = ["sh"]\n')
    assert not moved()
    recipe(world, RECIPE.replace("/usr/share/doc/*", "/usr/share/info/*"))
    assert moved()
    recipe(world, RECIPE + "[groups]\ncrew = 2375\n")
    assert moved()
    recipe(world, RECIPE)
    base = world.project.images / "base" / "rootfs" / "srv" / "below"
    base.parent.mkdir(parents=True)
    base.write_text("a file of the image below: scripts of packages may read it")
    assert moved()
    base.unlink()
    publish_greeter(world, "1.7")
    world.lock()
    assert moved()


@pytest.mark.usefixtures("nothing_runs")
def test_a_recipe_of_files_alone_has_one_layer(world: World, spool: Spool) -> None:
    recipe(world, 'parent = "base"\n[slim]\nexclude = ["/usr/share/x/*"]\n[groups]\ncrew = 2375\n')
    write(world, "srv/own", "x")
    world.lock()
    built = world.build()
    assert sources(built) == ["base packages", "base files", "app files"]
    tree = tree_of(built, spool)
    assert tree.text("srv/own") == "x"
    assert "crew:*:2375:\n" in tree.text("etc/group")
    assert tree.text("etc/dpkg/dpkg.cfg.d/dindkit-app") == "path-exclude=/usr/share/x/*\n"


def test_own_files_over_those_of_packages(world: World, spool: Spool) -> None:
    publish_greeter(
        world,
        "1.8",
        files={"usr/bin/one": "packaged\n", "etc/hostname": "packaged\n", "srv/linked": "packaged\n"},
        scripts={"postinst": "#!/bin/sh\nln /srv/linked /srv/other\n"},
    )
    world.lock()
    write(world, "usr/bin/one", "own\n")
    write(world, "srv/linked", "own\n")
    write(world, "etc/hosts", "of a machine\n")
    write(world, "usr/lib/__pycache__/x.pyc", "of a machine\n")
    tree = tree_of(world.build(), spool)
    assert tree.text("usr/bin/one") == "own\n"
    assert tree.text("etc/hostname") == "packaged\n"
    assert tree.text("srv/linked") == "own\n"
    assert content(tree, "srv/other") == "packaged\n"
    assert not [path for path in tree.entries if path == "etc/hosts" or "__pycache__" in path]


def content(tree: Tree, path: str) -> str:
    entry = tree.entries[path]
    return tree.text(entry.link if entry.kind == "hardlink" else path)


@pytest.mark.parametrize("name", ["layer.tar", "index.json"])
def test_a_kept_layer_that_is_not_what_it_was(world: World, name: str) -> None:
    made = resolve(world.project, Order(image="app"))[-1]
    world.build()
    layer = packages_layer.find(world.project, made)
    assert layer is not None
    path = world.build().store.path(layer.diff_id).with_name(name)
    good = path.read_bytes()
    bad = good.replace(b"hello", b"h3llo") if name == "layer.tar" else good.replace(b"usr/bin", b"usr/b1n")
    assert bad != good
    path.write_bytes(bad)
    try:
        write(world, "srv/more", name)
        with pytest.raises(DamagedError, match=f"{name} is damaged"), opened(world.build()) as layout:
            b"".join(layout.stream())
    finally:
        path.write_bytes(good)


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_ids_do_not_depend_on_the_number_of_threads(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    wanted = world.build()
    monkeypatch.setattr(staging, "os", SimpleNamespace(cpu_count=lambda: threads, link=os.link))
    project = replace(world.project, state=state_with_base(world, tmp_path / "state"))
    built = build(project, Order(image="app"), Progress(quiet=True))
    assert (built.image_id, built.layers) == (wanted.image_id, wanted.layers)


def test_sources_are_words() -> None:
    assert str(Source("dind", "files")) == "dind files"
