"""Two images are equal where every byte of configuration and layers is; otherwise the difference is named."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import zstandard

from dindkit.formats import compare, oci, tree
from dindkit.formats.contents import ContentStore
from dindkit.formats.entry import Entry
from dindkit.formats.image_archive import ArchiveError
from dindkit.formats.tree import Tree
from tests.support.image_archives import index_of, members, name_of, pack, write_image
from tests.support.local_project import tar_of

TAR = "application/vnd.oci.image.layer.v1.tar"


def zstd(tar: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(tar)


@dataclass(frozen=True)
class Parts:
    """What an image archive is made of: the configuration's bytes, and the tar of each layer."""

    config: bytes
    tars: Sequence[bytes]

    def claiming(self, tars: Sequence[bytes]) -> Parts:
        """Return an image that says it has the layers `tars`."""
        diff_ids = [oci.digest(tar) for tar in tars]
        rootfs = {"type": "layers", "diff_ids": diff_ids}
        return replace(self, config=oci.document({**json.loads(self.config), "rootfs": rootfs}))

    def write(
        self, path: Path, pack_layer: Callable[[bytes], bytes] = zstd, kind: str = f"{TAR}+zstd"
    ) -> Path:
        """Write the archive, in which both tables and all names agree."""
        blobs = [pack_layer(tar) for tar in self.tars]
        config = {"mediaType": oci.CONFIG, "digest": oci.digest(self.config), "size": len(self.config)}
        layers = [{"mediaType": kind, "digest": oci.digest(blob), "size": len(blob)} for blob in blobs]
        manifest = oci.document({"schemaVersion": 2, "config": config, "layers": layers})
        saved = [
            {"Config": name_of(self.config), "Layers": [name_of(blob) for blob in blobs], "RepoTags": []}
        ]
        files = {"index.json": index_of([manifest]), "manifest.json": oci.document(saved)}
        return pack(path, files, {name_of(content): content for content in (self.config, manifest, *blobs)})


@pytest.fixture
def archive(tmp_path: Path, contents: ContentStore) -> Path:
    base = Tree(contents)
    base.put("etc/passwd", "root:x:0:0")
    base.put("bin/sh", "#!", 0o755)
    tool = Tree(contents, base.entries.values())
    tool.put("usr/bin/tool", "tool", 0o755)
    return write_image(tmp_path / "good", contents, base, tool)


@pytest.fixture
def good(archive: Path) -> Parts:
    files = members(archive)
    (entry,) = json.loads(files["manifest.json"])
    blobs = [zstandard.ZstdDecompressor().stream_reader(files[name]).read() for name in entry["Layers"]]
    return Parts(files[entry["Config"]], blobs)


@pytest.fixture
def against(archive: Path, tmp_path: Path) -> Callable[[Path], list[tuple[int, str, str]]]:
    """Hold an archive against the good one."""

    def found(path: Path) -> list[tuple[int, str, str]]:
        return [(one.layer, one.path, one.how) for one in compare.archives(archive, path, tmp_path / "work")]

    return found


Against = Callable[[Path], list[tuple[int, str, str]]]


def test_how_an_engine_packs_layers_does_not_count(
    good: Parts, archive: Path, against: Against, tmp_path: Path
) -> None:
    assert against(archive) == []
    assert against(good.write(tmp_path / "zstd.tar")) == []
    assert against(good.write(tmp_path / "gzip.tar", gzip.compress, f"{TAR}+gzip")) == []
    assert against(good.write(tmp_path / "plain.tar", bytes, TAR)) == []
    saved = [{"Config": "c.json", "RepoTags": None, "Layers": ["1/layer.tar", "2/layer.tar"]}]
    files = {"c.json": good.config, "manifest.json": oci.document(saved)}
    layers = {f"{index}/layer.tar": tar for index, tar in enumerate(good.tars, 1)}
    assert against(pack(tmp_path / "old.tar", files, layers)) == []


def test_a_layer_is_what_is_in_it_and_not_what_is_said_of_it(
    good: Parts, against: Against, contents: ContentStore, tmp_path: Path
) -> None:
    with tarfile.open(fileobj=io.BytesIO(good.tars[1])) as source:
        tool = Tree(contents, tree.entries(source, contents))
    tool.put("etc/passwd", "evil::0:0")
    del tool.entries[""]
    lying = replace(good, tars=[good.tars[0], tar_of(tool)])
    assert against(lying.write(tmp_path / "x.tar")) == [(1, "etc", "extra"), (1, "etc/passwd", "extra")]


def test_a_blob_is_the_one_that_it_is_named_after(
    good: Parts, archive: Path, against: Against, tmp_path: Path
) -> None:
    files = members(archive)
    (entry,) = json.loads(files["manifest.json"])
    path = pack(tmp_path / "x.tar", {**files, entry["Layers"][1]: zstd(good.tars[0])})
    with pytest.raises(ArchiveError, match=r"x\.tar is damaged or forged: 'blobs/sha256/"):
        against(path)
    again = zstandard.ZstdCompressor(level=1).compress(good.tars[1])  # other bytes around the same tar
    path = pack(tmp_path / "x.tar", {**files, entry["Layers"][1]: again})
    with pytest.raises(ArchiveError, match=r"x\.tar is damaged or forged: 'blobs/sha256/"):
        against(path)


def test_a_layer_that_is_applied_once_more(good: Parts, against: Against, tmp_path: Path) -> None:
    stack = [*good.tars, good.tars[0]]
    again = replace(good, tars=stack).claiming(stack).write(tmp_path / "x.tar")
    assert (2, "etc/passwd", "extra") in against(again)
    fewer = replace(good, tars=stack[:1]).claiming(stack[:1]).write(tmp_path / "y.tar")
    assert (1, "usr/bin/tool", "missing") in against(fewer)


def test_an_empty_layer_is_a_layer(good: Parts, against: Against, tmp_path: Path) -> None:
    stack = [*good.tars, bytes(1024)]
    more = replace(good, tars=stack).claiming(stack).write(tmp_path / "x.tar")
    assert against(more) == [(2, "", "bytes of the layer")]


@pytest.mark.parametrize("name", ["system.posix_acl_access", "user.evil", "trusted.overlay.opaque"])
def test_any_attribute_is_a_difference(good: Parts, against: Against, tmp_path: Path, name: str) -> None:
    changed = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(good.tars[0])) as source,
        tarfile.open(fileobj=changed, mode="w", format=tarfile.PAX_FORMAT) as out,
    ):
        for member in source:
            if member.name == "bin/sh":
                member.pax_headers = {f"SCHILY.xattr.{name}": "x"}
            out.addfile(member, source.extractfile(member) if member.isreg() else None)
    stack = [changed.getvalue(), good.tars[1]]
    claimed = replace(good, tars=stack).claiming(stack)
    assert against(claimed.write(tmp_path / "x.tar")) == [(0, "", "bytes of the layer")]
    assert against(replace(good, tars=stack).write(tmp_path / "y.tar")) == [(0, "", "bytes of the layer")]


def test_no_name_in_an_image_can_forge_a_line(contents: ContentStore) -> None:
    tree, other = Tree(contents), Tree(contents)
    names = [
        "a\nequal: dind:trixie",
        "\x1b[2J\x9b1A\r",
        "\u202egpj.exe",
        "raw\udcff",
        "ő",
        "back\\slash",
    ]
    for name in names:
        other.put(name, "")
        tree.add(Entry(f"link {name}", "symlink", 0o777, link="there"))
        other.add(Entry(f"link {name}", "symlink", 0o777, link=name))
    found = [str(one) for one in compare.entries(tree.entries.values(), other.entries.values())]
    assert len(found) == 2 * len(names)
    assert all(line.isascii() and line.isprintable() and line.startswith("layer 0: /") for line in found)
    assert r"layer 0: /raw\udcff: extra" in found
    assert r"layer 0: /back\\slash: extra" in found
    assert r"layer 0: /link raw\udcff: link (there became raw\udcff)" in found


def test_what_is_no_path_is_told_without_one() -> None:
    assert (
        str(compare.Difference(-1, "", "configuration", "a became b")) == "image: configuration (a became b)"
    )


def test_what_follows_a_first_frame_counts(
    good: Parts, against: Against, contents: ContentStore, tmp_path: Path
) -> None:
    """Engines read all frames of a zstd blob as one tar."""

    def with_more(tar: bytes) -> bytes:
        return zstd(tar) + zstd(b"more")

    assert against(good.write(tmp_path / "x.tar", with_more)) == [
        (0, "", "bytes of the layer"),
        (1, "", "bytes of the layer"),
    ]


def test_a_configuration_is_its_bytes(good: Parts, against: Against, tmp_path: Path) -> None:
    def changed(**more: Any) -> Parts:
        return replace(good, config=oci.document({**json.loads(good.config), **more}))

    lying = {"type": "layers", "diff_ids": [oci.digest(good.tars[0]), oci.digest(b"")]}
    for name, parts in {
        "content": changed(config={"User": "evil"}),
        "layers": changed(rootfs=lying),
        "space": replace(good, config=good.config + b"\n"),
        "doubled": replace(good, config=good.config.replace(b"{", b'{"os":"plan9",', 1)),
    }.items():
        assert against(parts.write(tmp_path / name)) == [(-1, "", "configuration")]


def deep_headers() -> bytes:
    """Make a tar in which each header announces another one, deeper than a reader may recurse."""
    member = tarfile.TarInfo("x")
    member.type = tarfile.GNUTYPE_LONGNAME
    return member.tobuf() * 5_000 + bytes(1024)


def timeless(tar: bytes) -> bytes:
    """Give the first file of a tar a time that is no number of seconds."""
    member = tarfile.TarInfo("x")
    member.pax_headers = {"mtime": "inf"}
    return member.tobuf(tarfile.PAX_FORMAT) + tar


def middle(data: bytes) -> bytes:
    """Overwrite a few bytes."""
    return data[:40] + b"\xff" * 8 + data[48:]


@pytest.mark.parametrize(
    ("pack_layer", "kind"),
    [
        pytest.param(lambda tar: tar[:1025], TAR, id="cut-tar"),
        pytest.param(lambda tar: zstd(tar)[:-30], f"{TAR}+zstd", id="cut-zstd"),
        pytest.param(lambda tar: gzip.compress(tar)[:-30], f"{TAR}+gzip", id="cut-gzip"),
        pytest.param(lambda tar: middle(zstd(tar)), f"{TAR}+zstd", id="wrong-zstd"),
        pytest.param(lambda tar: middle(gzip.compress(tar)), f"{TAR}+gzip", id="wrong-gzip"),
        pytest.param(lambda _: b"no zstd", f"{TAR}+zstd", id="no-zstd"),
        pytest.param(lambda _: b"no gzip", f"{TAR}+gzip", id="no-gzip"),
        pytest.param(lambda _: deep_headers(), TAR, id="deep"),
        pytest.param(timeless, TAR, id="timeless"),
    ],
)
def test_a_layer_that_cannot_be_read_is_said_to_be_damaged(
    good: Parts, against: Against, tmp_path: Path, pack_layer: Callable[[bytes], bytes], kind: str
) -> None:
    path = good.write(tmp_path / "x.tar", pack_layer, kind)
    with pytest.raises(ArchiveError, match=r"x\.tar is damaged: its layer 'sha256:\w+' cannot be read"):
        against(path)
