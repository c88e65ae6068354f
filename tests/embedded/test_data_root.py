"""A new engine begins with its image: its layers are what dockerd itself makes of them when it loads them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import signal
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dindkit.embedded import data_root, lifecycle
from dindkit.embedded.paths import Paths
from dindkit.engine import load
from dindkit.engine.discover import Engine
from dindkit.errors import DamagedError
from dindkit.formats import layer as layers
from dindkit.formats import oci
from dindkit.formats.contents import ContentStore
from dindkit.formats.entry import Entry
from dindkit.formats.layer import Layer
from dindkit.formats.layer_store import LayerStore
from dindkit.formats.tree import Tree
from dindkit.image import image_config
from dindkit.image.build import Built
from dindkit.image.recipe import Config
from dindkit.progress import Progress
from dindkit.project import Project
from tests.support.host import Host, new_host
from tests.support.suites import is_other

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(os.geteuid() != 0, reason="reads the data root of root's engine"),
]

of_the_default_suite = pytest.mark.skipif(
    is_other(), reason="engine.start boots an image of the committed locks"
)

TIME = 1_700_000_000
#: What a mount leaves on folders of the upper layer.
OF_MOUNTS = ("trusted.overlay.origin", "trusted.overlay.impure")


@pytest.fixture
def host(project: Project, dind: Built, base: Built, tmp_path: Path) -> Iterator[Host]:
    """Give a host whose engine has never run."""
    with new_host(project, tmp_path / "state") as made:
        yield made


def written(data: Path) -> dict[str, Any]:
    """Return what a data root has of its layers, by chain id, whatever names dockerd has given them."""
    return {path.name: layer_in(data, path) for path in (data / data_root.LAYERS).iterdir()}


def layer_in(data: Path, folder: Path) -> dict[str, Any]:
    """Return what dockerd has written down of the layer in `folder`, and its files with all about them."""
    documents = {path.name: path.read_text() for path in folder.iterdir() if path.suffix != ".gz"}
    with gzip.open(folder / "tar-split.json.gz") as file:
        tar = [json.loads(line) for line in file]
    overlay = data / "overlay2" / documents.pop("cache-id")
    chain_ids = {(one / "cache-id").read_text(): one.name for one in (data / data_root.LAYERS).iterdir()}
    links = {path.name: path.readlink().parent.name for path in (data / "overlay2/l").iterdir()}
    lower = overlay / "lower"
    names = lower.read_text().split(":") if lower.exists() else []
    return documents | {
        "tar": tar,
        "link": chain_ids[links[(overlay / "link").read_text()]],
        "lower": [chain_ids[links[name.removeprefix("l/")]] for name in names],
        "modes": {path.name: oct(path.stat().st_mode) for path in overlay.iterdir() if path.is_dir()},
        "files": dict(files(overlay / "diff")),
    }


def files(folder: Path) -> Iterator[tuple[str, Any]]:
    """Yield each path in `folder`, with its status, its first name, its content or target, its attributes."""
    inodes: dict[int, str] = {}
    for path in sorted(folder.rglob("*")):
        name, about = str(path.relative_to(folder)), path.lstat()
        content = ""
        if path.is_symlink():
            content = str(path.readlink())
        elif path.is_file():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        attributes = [one for one in os.listxattr(path, follow_symlinks=False) if one not in OF_MOUNTS]
        deleted = stat.S_ISCHR(about.st_mode) and about.st_rdev == 0  # nobody sees its time
        yield (
            name,
            {
                "mode": oct(about.st_mode),
                "owner": (about.st_uid, about.st_gid),
                "time": 0 if deleted else int(about.st_mtime),
                "device": about.st_rdev,
                "first name": inodes.setdefault(about.st_ino, name),
                "content": content,
                "attributes": {one: os.getxattr(path, one, follow_symlinks=False) for one in attributes},
            },
        )


def names(engine: Engine) -> list[str]:
    return [name for image in engine.client.images.list() for name in image.tags]


def diff_ids(archive: bytes) -> list[str]:
    """Return the digests of the layers in what `docker save` has written."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:

        def content(name: str) -> bytes:
            file = members.extractfile(name)
            assert file is not None
            return file.read()

        (image,) = json.loads(content("manifest.json"))
        return [oci.digest(content(name)) for name in image["Layers"]]


@of_the_default_suite
def test_the_engine_has_its_image_which_is_what_it_would_have_loaded(host: Host, dind: Built) -> None:
    host.verb("engine.start")
    data = Paths(host.project).data
    try:
        engine = lifecycle.status(host.project)
        assert names(engine) == [dind.reference]
        given = written(data)
        (dockerd,) = (data / "overlay2").glob("*/diff/usr/sbin/dockerd")
        assert dockerd.stat().st_nlink > 1  # one is in the tree of the engine
        saved = b"".join(engine.client.images.get(dind.reference).save())
        assert diff_ids(saved) == [layer.diff_id for layer in dind.layers]
        engine.client.images.remove(dind.reference)
        assert written(data) == {}
        load.load(engine, dind, Progress(quiet=True))
        assert written(data) == given
    finally:
        host.verb("engine.stop", "--purge")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_first_start_that_is_ended_while_it_links(host: Host, number: signal.Signals) -> None:
    data = Paths(host.project).data
    half = data.with_name("data.partial")
    with subprocess.Popen(
        [*host.enter, *host.invoke("engine.start")],
        env=host.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as start:
        while not (half / "overlay2").exists():
            assert start.poll() is None
        start.send_signal(number)
    assert not data.exists()
    assert half.exists() is (number is signal.SIGKILL)
    host.verb("engine.start")
    try:
        assert names(lifecycle.status(host.project))
        assert not half.exists()
    finally:
        host.verb("engine.stop", "--purge")


@pytest.mark.parametrize("before", ["link the engine's layers", "boot the engine"])
def test_a_first_start_that_is_killed_after_the_step_before_has_the_image_next_time(
    host: Host, before: str
) -> None:
    """Whether its engine runs by then, or not."""
    with subprocess.Popen(
        [*host.enter, *host.invoke("engine.start")],
        env=host.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as start:
        assert start.stderr is not None
        assert any(line.startswith(before) for line in start.stderr)
        start.kill()
    host.verb("engine.start")
    try:
        assert names(lifecycle.status(host.project))
        assert not Paths(host.project).begun.exists()
    finally:
        host.verb("engine.stop", "--purge")


@of_the_default_suite
def test_a_file_of_the_tree_that_was_changed_is_right_in_the_engines_layers_too(
    host: Host, dind: Built
) -> None:
    """It is the same file there. Layers of a tree that is laid out anew are linked to that."""
    paths = Paths(host.project)
    host.verb("engine.start")
    host.verb("engine.stop")
    given = written(paths.data)
    (tree,) = paths.trees.iterdir()
    own = paths.trees / "own"
    shutil.copytree(tree.resolve(), own, symlinks=True, copy_function=os.link)  # the other is lent
    tree.unlink()
    own.rename(tree)
    release = tree / "usr/lib/os-release"
    for engines_own in (False, True):
        if engines_own:  # by now the tree is this engine's alone, and both names are those of one file
            changed = next(paths.data.glob("overlay2/*/diff/usr/lib/os-release"))
            assert changed.samefile(release)
        else:
            changed = release
            changed.unlink()  # others have the file, too
        with changed.open("ab") as file:
            file.write(b"changed")
        host.verb("engine.start")
        try:
            assert written(paths.data) == given
            engine = lifecycle.status(host.project)
            saved = b"".join(engine.client.images.list()[0].save())
            assert diff_ids(saved) == [layer.diff_id for layer in dind.layers]
        finally:
            host.verb("engine.stop")
    host.verb("engine.stop", "--purge")


def odd_layers(store: LayerStore, contents: ContentStore) -> list[Layer]:
    """Make three layers with all kinds of files; the upper ones replace and delete some of those below."""

    def file(path: str, content: bytes, **more: Any) -> Entry:
        digest, size = contents.put(content)
        return Entry(path, "file", 0o644, mtime=TIME, size=size, digest=digest, **more)

    below = Tree(contents)
    for entry in (
        Entry("etc", "dir", 0o755, mtime=TIME),
        Entry("etc/deep", "dir", 0o1777, 7, 8, mtime=TIME),
        file("etc/deep/changed", b"before", uid=9),
        file("etc/deep/gone", b"gone"),
        file("etc/empty", b""),
        file("etc/large", bytes(3_000_000), capability=bytes.fromhex("0100000200200000") + bytes(12)),
        Entry("etc/link", "symlink", 0o777, 3, 4, mtime=TIME, link="deep/changed"),
        file("etc/names", b"of one file"),
        Entry("etc/names2", "hardlink", 0o644, mtime=TIME, link="etc/names"),
        Entry("etc/null", "char", 0o666, mtime=TIME, device=(1, 3)),
        Entry("etc/pipe", "fifo", 0o600, mtime=TIME),
        file("etc/\udcff", b"a name that is no UTF-8"),
        file("etc/" + "long" * 40, b"a name in a pax record"),
    ):
        below.add(entry)
    middle = Tree(contents, below.entries.values())
    middle.remove("etc/deep/gone")
    middle.add(file("etc/deep/changed", b"after"))
    above = Tree(contents, middle.entries.values())
    above.remove("etc/deep")
    above.remove("etc/names2")
    pairs = ((below, None), (middle, below), (above, middle))
    return [store.add(layers.difference(tree, parent), contents) for tree, parent in pairs]


def laid_out(store: LayerStore, made: list[Layer], folder: Path) -> Path:
    """Return a folder with the tree of the layers, as the engine has that of its image."""
    folder.mkdir()
    with closing(ContentStore(folder.parent)) as contents:
        layers.extract_tree(store.tree(made, contents)[1], folder)
    return folder


def test_files_of_every_kind(engine: Engine, project: Project, tmp_path: Path) -> None:
    store = LayerStore(tmp_path / "layers")
    with closing(ContentStore(tmp_path)) as contents:
        made = odd_layers(store, contents)
    tree = laid_out(store, made, tmp_path / "tree")
    before = os.umask(0o077)  # the user's; dockerd has one of its own
    try:
        data_root.make(tmp_path / "data", store, made, tree)
    finally:
        os.umask(before)
    ours = written(tmp_path / "data")
    assert len(ours) == 3
    image = image_config.describe(
        [image_config.Part(layer, "made by a test") for layer in made],
        Config(),
        {},
        TIME,
        engine.client.version()["Arch"],
        f"odd-{os.getpid()}:latest",
    )
    archive = io.BytesIO()
    oci.write(image, {layer.digest: store.path(layer.diff_id) for layer in made}, archive)
    engine.client.images.load(archive.getvalue())
    try:
        theirs = written(Paths(project).data)
        assert {name: theirs[name] for name in ours} == ours
    finally:
        engine.client.images.remove(image.tags[0])


def write_over(path: Path, old: bytes, new: bytes) -> Path:
    """Change a file of the store; an index gets the digest of its new content, too."""
    content = path.read_bytes()
    assert old in content
    content = content.replace(old, new)
    if path.name == "index.json":
        text = content.partition(b"\n")[2]
        content = hashlib.sha256(text).hexdigest().encode() + b"\n" + text
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("what", ["what is replaced above", "a mode in the index", "the tree"])
def test_nothing_is_there_where_something_was_changed(tmp_path: Path, what: str) -> None:
    store = LayerStore(tmp_path / "layers")
    with closing(ContentStore(tmp_path)) as contents:
        made = odd_layers(store, contents)
    tree = laid_out(store, made, tmp_path / "tree")
    damaged = index = store.index_path(made[0].diff_id)
    if what == "what is replaced above":
        damaged = write_over(store.path(made[0].diff_id), b"before", b"BEFORE")
    elif what == "a mode in the index":
        write_over(index, b'"etc/empty","file",420', b'"etc/empty","file",2541')  # 04755
    else:
        write_over(tree / "etc/names", b"of one file", b"of 1 file..")
    with pytest.raises(DamagedError):
        data_root.make(tmp_path / "data", store, made, tree)
    assert not [found for found in tmp_path.iterdir() if found.name.startswith("data")]
    assert not damaged.exists()  # so that it is made anew


@pytest.mark.parametrize(
    ("version", "can"),
    [
        ("26.1.5+dfsg1-9+b1", True),
        ("5:28.5.2-1~debian.13~trixie", True),
        ("5:29.0.0-1~debian.13~trixie", False),
    ],
)
def test_versions_that_keep_layers_otherwise_load_them(dind: Built, version: str, can: bool) -> None:
    lock = dind.inputs.lock
    rows = tuple(
        replace(row, version=version) if row.name in data_root.PACKAGES else row for row in lock.rows
    )
    other = replace(dind, inputs=replace(dind.inputs, lock=replace(lock, rows=rows)))
    assert data_root.can_have_layers(other) is can
