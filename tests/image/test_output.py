"""`build --output`: three forms, each read by programs that are not ours."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dindkit.errors import DamagedError, DindkitError
from dindkit.formats.contents import ContentStore
from dindkit.formats.entry import Entry
from dindkit.image import built as built_images
from dindkit.image import output as outputs
from dindkit.image.built import Built
from dindkit.image.image_config import FILES, Source
from dindkit.image.output import OCI, TAR, Output
from dindkit.progress import Progress
from tests.support.archive import KeyRing
from tests.support.local_project import LocalProject
from tests.support.tiny_project import tiny_project

QUIET = Progress(quiet=True)
#: security.capability of a program with cap_net_raw: capability.h, struct vfs_ns_cap_data of revision 2.
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")


@pytest.fixture(scope="module")
def tiny(key_ring: KeyRing, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalProject]:
    with tiny_project(tmp_path_factory.mktemp("tiny"), key_ring) as made:
        yield made


@pytest.fixture(scope="module")
def odd(tiny: LocalProject) -> Built:
    """Give the image `app` with one more layer, of what root file systems may hold besides plain files."""
    built = tiny.build()
    with closing(ContentStore(tiny.project.state / "tmp")) as contents:
        program, size = contents.put(b"#!/bin/sh\n")
        content = {"digest": program, "size": size, "mtime": 1_600_000_000}
        layer = built.store.add(
            [
                Entry("odd", "dir", 0o1777, mtime=1_600_000_000),
                Entry("odd/block", "block", 0o660, gid=6, device=(8, 1)),
                Entry("odd/char", "char", 0o666, device=(1, 3)),
                Entry("odd/fifo", "fifo", 0o600),
                Entry("odd/first", "file", 0o4755, uid=7, gid=8, **content),  # type: ignore[arg-type]
                Entry("odd/link", "symlink", 0o777, link="/nowhere"),
                Entry("odd/" + "n" * 200, "file", 0o600, **content),  # type: ignore[arg-type]
                Entry("odd/ping", "file", 0o755, capability=CAPABILITY, **content),  # type: ignore[arg-type]
                Entry("odd/second", "hardlink", 0o4755, uid=7, gid=8, mtime=1_600_000_000, link="odd/first"),
                Entry("usr/bin/.wh.greet", "file", 0o644, digest=hashlib.sha256(b"").hexdigest()),
            ],
            contents,
        )
    layers, sources = (*built.layers, layer), (*built.sources, Source("app", FILES))
    return built_images.of(built.inputs, layers, sources, built.folder)


def seen(folder: Path) -> dict[str, tuple[object, ...]]:
    """Return what the system says of each path below `folder`."""
    inodes: dict[int, str] = {}
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(folder.rglob("*")):
        state = path.lstat()
        name = str(path.relative_to(folder))
        plain = stat.S_ISREG(state.st_mode)
        capability = b""
        if plain and "security.capability" in os.listxattr(path):
            capability = os.getxattr(path, "security.capability")
        found[name] = (
            oct(state.st_mode),
            state.st_uid,
            state.st_gid,
            int(state.st_mtime) if plain else None,
            state.st_rdev,
            path.read_bytes() if plain else None,
            path.readlink() if path.is_symlink() else None,
            capability,
            inodes.setdefault(state.st_ino, name) if plain else None,
        )
    return found


def skopeo(*words: str) -> bytes:
    return subprocess.run(["skopeo", "--insecure-policy", *words], check=True, capture_output=True).stdout


def test_a_root_file_system_is_what_other_tools_make_of_the_layers(
    tiny: LocalProject, odd: Built, tmp_path: Path
) -> None:
    """GNU tar unpacks ours; skopeo and umoci put the layers of the OCI layout on one another."""
    if os.geteuid() != 0:
        pytest.skip("device nodes and owners need root")
    outputs.write(tiny.project, odd, Output(tmp_path / "root.tar", TAR), QUIET)
    ours = tmp_path / "ours"
    ours.mkdir()
    words = ["tar", "--extract", "--xattrs", "--xattrs-include=*", "--same-owner", "--preserve-permissions"]
    subprocess.run([*words, f"--file={tmp_path}/root.tar", f"--directory={ours}"], check=True)

    outputs.write(tiny.project, odd, Output(tmp_path / "layout", OCI, folder=True), QUIET)
    # umoci 0.4 knows no zstd.
    skopeo("copy", "--dest-compress-format=gzip", f"oci:{tmp_path}/layout:trixie", f"oci:{tmp_path}/gzip:1")
    subprocess.run(
        ["umoci", "unpack", "--image", f"{tmp_path}/gzip:1", str(tmp_path / "bundle")],
        check=True,
        capture_output=True,
    )
    found, wanted = seen(ours), seen(tmp_path / "bundle" / "rootfs")
    assert found == wanted
    assert found["odd/first"][-1] == found["odd/second"][-1] == "odd/first"
    assert found["odd/ping"][-2] == CAPABILITY
    assert found["odd/char"][4] == os.makedev(1, 3)
    assert "usr/bin/greet" not in found


def test_the_same_image_in_every_form(tiny: LocalProject, odd: Built, tmp_path: Path) -> None:
    for output in (
        Output(tmp_path / "docker.tar"),
        Output(tmp_path / "oci.tar", OCI),
        Output(tmp_path / "layout", OCI, folder=True),
    ):
        written = outputs.write(tiny.project, odd, output, QUIET)
        names = {"docker": "docker-archive:{}", "oci": "oci-archive:{}:trixie"}
        source = "oci:{}:trixie" if output.folder else names[output.form]
        raw = skopeo("inspect", "--raw", source.format(output.path))
        config = skopeo("inspect", "--raw", "--config", source.format(output.path))
        assert f"sha256:{hashlib.sha256(config).hexdigest()}" == odd.image_id
        if output.form == OCI:
            assert f"sha256:{hashlib.sha256(raw).hexdigest()}" == written.manifest
    assert (tmp_path / "docker.tar").read_bytes() == (tmp_path / "oci.tar").read_bytes()


@pytest.mark.parametrize("folder", [True, False])
def test_names(tiny: LocalProject, odd: Built, tmp_path: Path, folder: bool) -> None:
    names = ["localhost:5000/team/app:1", "app:1", "app:two"]
    outputs.write(tiny.project, odd, Output(tmp_path / "out", OCI, folder), QUIET, names=names)
    kind = "oci" if folder else "oci-archive"
    for tag in ("1", "two"):
        config = skopeo("inspect", "--raw", "--config", f"{kind}:{tmp_path}/out:{tag}")
        assert f"sha256:{hashlib.sha256(config).hexdigest()}" == odd.image_id
    if folder:
        index = json.loads((tmp_path / "out" / "index.json").read_text())
        assert [one["annotations"]["io.containerd.image.name"] for one in index["manifests"]] == [
            "localhost:5000/team/app:1",
            "docker.io/library/app:1",
            "docker.io/library/app:two",
        ]
    else:
        listed = json.loads(skopeo("list-tags", f"docker-archive:{tmp_path}/out"))
        assert listed["Tags"] == names


def test_a_layout_is_replaced_whole(tiny: LocalProject, odd: Built, tmp_path: Path) -> None:
    target = tmp_path / "layout"
    target.mkdir()
    output = Output(target, OCI, folder=True)
    app = tiny.build()
    outputs.write(tiny.project, odd, output, QUIET)
    outputs.write(tiny.project, app, output, QUIET)
    config = skopeo("inspect", "--raw", "--config", f"oci:{target}:trixie")
    assert f"sha256:{hashlib.sha256(config).hexdigest()}" == app.image_id
    blobs = {path.name for path in (target / "blobs" / "sha256").iterdir()}
    assert len(blobs) == len(app.layers) + 2  # nothing is left of the other image
    assert [path.name for path in tmp_path.iterdir()] == ["layout"]
    for path in target.rglob("blobs/sha256/*"):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name


def test_a_damaged_layer_leaves_what_was_there(tiny: LocalProject, odd: Built, tmp_path: Path) -> None:
    output = Output(tmp_path / "layout", OCI, folder=True)
    outputs.write(tiny.project, tiny.build(), output, QUIET)
    before = sorted((path, path.stat().st_mtime_ns) for path in output.path.rglob("*"))
    layer = odd.store.path(odd.layers[-1].diff_id)
    good = layer.read_bytes()
    for path in layer.parent.glob("layer.*.zst"):
        path.unlink()
    layer.write_bytes(good[:-1] + b"x")
    try:
        with pytest.raises(DamagedError):
            outputs.write(tiny.project, odd, output, QUIET)
        layer.write_bytes(good[:-1] + b"x")
        with pytest.raises(DamagedError):
            outputs.write(tiny.project, odd, Output(tmp_path / "root.tar", TAR), QUIET)
    finally:
        layer.write_bytes(good)
    assert sorted((path, path.stat().st_mtime_ns) for path in output.path.rglob("*")) == before
    assert [path.name for path in tmp_path.iterdir()] == ["layout"]


def test_another_folder_is_not_touched(tiny: LocalProject, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("a letter")
    for path, said in ((tmp_path, "holds other things"), (tmp_path / "mine", "is no folder")):
        with pytest.raises(DindkitError, match=said):
            outputs.check(Output(path, OCI, folder=True), None)
        with pytest.raises(DindkitError, match=said):
            outputs.write(tiny.project, tiny.build(), Output(path, OCI, folder=True), QUIET)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("out.tar", Output(Path("out.tar"))),
        ("./type=oci", Output(Path("./type=oci"))),
        ("a=b.tar", Output(Path("a=b.tar"))),
        ("-", Output(Path("/dev/stdout"))),
        ("dest=x.tar", Output(Path("x.tar"))),
        ("type=docker,dest=x.tar", Output(Path("x.tar"))),
        ("type=oci,dest=x.tar", Output(Path("x.tar"), OCI)),
        ("type=oci,dest=x,tar=false", Output(Path("x"), OCI, folder=True)),
        ("type=tar,dest=-", Output(Path("/dev/stdout"), TAR)),
        ('type=tar,"dest=a,b=c"', Output(Path("a,b=c"), TAR)),
    ],
)
def test_what_an_output_may_be(text: str, wanted: Output) -> None:
    assert outputs.parse(text) == wanted


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("type=oci", "--output says not where to."),
        ("type=ocl,dest=x", "--output writes no type=ocl. Did you mean oci?"),
        ("type=local,dest=x", "--output writes no type=local. Instead: type=tar, and unpack it."),
        ("type=registry,dest=x", "Instead: invoke push."),
        ("type=oci,dst=x", "--output knows no 'dst=x'. Did you mean dest?"),
        ("type=oci,dest", "--output knows no 'dest'."),
        ("type=oci,dest=x,dest=y", "--output has dest= twice."),
        ("type=oci,dest=x,tar=no", "tar=no is neither true nor false."),
        ("type=docker,dest=x,tar=false", "Only type=oci can be a folder"),
        ("type=oci,dest=-,tar=false", "A folder cannot be written to standard output."),
    ],
)
def test_what_it_may_not_be(text: str, said: str) -> None:
    with pytest.raises(DindkitError) as caught:
        outputs.parse(text)
    assert said in str(caught.value)


def test_a_level_is_for_layers(tmp_path: Path) -> None:
    with pytest.raises(DindkitError, match="--level is for layers"):
        outputs.check(Output(tmp_path / "x.tar", TAR), 3)
