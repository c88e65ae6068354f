"""Image archives and their layers, as `docker save` and OCI tools write them, and as nobody should."""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from dindkit.formats import compare, layer, oci
from dindkit.formats.contents import ContentStore
from dindkit.formats.image_archive import open_archive
from dindkit.formats.tree import Tree, read_tar
from tests.fuzz import edits, tars
from tests.fuzz.debs import same_again, whole
from tests.fuzz.jail import contained
from tests.fuzz.target import Target
from tests.fuzz.tars import Member
from tests.support.layers import store


class Raw(str):
    """Text that goes into a document as it is."""


@dataclass(frozen=True)
class Change:
    """One change of a JSON document: the steps to a value (modulo sizes), and what becomes of it."""

    steps: tuple[int, ...]
    kind: str
    value: Any = field(repr=True)


ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    1.5,
    1 << 70,
    "",
    "a",
    "sha256:" + "0" * 64,
    "sha256:zz",
    "../../etc/passwd",
    "blobs/sha256",
    "\x1b[2J",
    [],
    {},
    [[]],
    {"": None},
    Raw("NaN"),
    Raw("1e999"),
    Raw("[" * 3000),
    Raw('"\\ud800"'),
    Raw("1" * 5000),
    Raw('{"a":1,"A":2}'),
]

CHANGES = st.lists(
    st.builds(
        Change,
        st.lists(st.integers(0, 7), max_size=6).map(tuple),
        st.sampled_from(["set", "set", "set", "drop", "twice", "case", "again"]),
        st.sampled_from(ODD),
    ),
    max_size=2,
)


def changed(document: Any, changes: list[Change]) -> bytes:
    """Return the text of `document` with every change made."""
    document = json.loads(json.dumps(document))
    raw: dict[str, str] = {}
    for change in changes:
        document = _change(document, change.steps, change, raw)
    text = json.dumps(document)
    for name, value in raw.items():
        text = text.replace(f'"{name}"', value)
    return text.encode()


def _change(value: Any, steps: tuple[int, ...], change: Change, raw: dict[str, str]) -> Any:
    new = copy.deepcopy(change.value)  # later changes go into it
    if isinstance(new, Raw):
        name = f"raw{len(raw)}"
        raw[name], new = new, name
    if not steps or not isinstance(value, dict | list) or not value:
        return new
    keys: list[Any] = sorted(value) if isinstance(value, dict) else list(range(len(value)))
    key = keys[steps[0] % len(keys)]
    if len(steps) > 1 and isinstance(value[key], dict | list) and value[key]:
        value[key] = _change(value[key], steps[1:], change, raw)
    elif change.kind == "drop":
        del value[key]
    elif change.kind == "case" and isinstance(value, dict):
        value[str(key).swapcase()] = value[key]
    elif change.kind in ("twice", "again") and isinstance(value, list):
        value.append(value[key] if change.kind == "twice" else new)
    else:
        value[key] = new
    return value


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass(frozen=True)
class Case:
    """An image by its layers and documents, and what is wrong with them."""

    layers: tuple[tuple[tuple[Member, ...], str, tuple[str, ...]], ...]
    layer_edits: list[edits.Edit]
    config: list[Change]
    manifest: list[Change]
    index: list[Change]
    saved: list[Change]
    #: Which of index.json and manifest.json are there.
    documents: tuple[bool, bool]
    #: Whether digests are those of the changed documents.
    renamed: bool
    members: tuple[Member, ...]
    twice: tuple[int, ...]
    packing: tuple[str, ...]
    edits: list[edits.Edit]

    def encoded(self) -> bytes:
        """Return the archive's bytes."""
        tars_, blobs = [], []
        for number, (members, end, packing) in enumerate(self.layers):
            tar = tars.encode(members, end)
            tar = edits.edited(tar, self.layer_edits) if number == 0 else tar
            tars_.append(tar)
            blobs.append((packing, edits.packed(tar, packing)))
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(tar) for tar in tars_]},
        }
        config_text = changed(config, self.config)
        named = config_text if self.renamed else json.dumps(config).encode()
        layers = [
            {"mediaType": _media_type(packing), "digest": _digest(blob), "size": len(blob)}
            for packing, blob in blobs
        ]
        manifest = {
            "schemaVersion": 2,
            "mediaType": oci.MANIFEST,
            "config": {"mediaType": oci.CONFIG, "digest": _digest(named), "size": len(named)},
            "layers": layers,
        }
        manifest_text = changed(manifest, self.manifest)
        named_manifest = manifest_text if self.renamed else json.dumps(manifest).encode()
        entry = {"mediaType": oci.MANIFEST, "digest": _digest(named_manifest), "size": len(named_manifest)}
        index = {"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": [entry]}
        saved = [
            {
                "Config": oci.blob_path(_digest(named)),
                "RepoTags": ["a/b:c"],
                "Layers": [oci.blob_path(_digest(blob)) for _packing, blob in blobs],
            }
        ]
        files = {
            oci.blob_path(_digest(named)): config_text,
            oci.blob_path(_digest(named_manifest)): manifest_text,
            **{oci.blob_path(_digest(blob)): blob for _packing, blob in blobs},
            **({"index.json": changed(index, self.index)} if self.documents[0] else {}),
            **({"manifest.json": changed(saved, self.saved)} if self.documents[1] else {}),
        }
        listed = [Member(name.encode(), content=content) for name, content in files.items()]
        listed += [listed[place % len(listed)] for place in self.twice]
        return edits.edited(edits.packed(tars.encode((*listed, *self.members)), self.packing), self.edits)


def _media_type(packing: tuple[str, ...]) -> str:
    return "application/vnd.oci.image.layer.v1.tar" + {".gz": "+gzip", ".zst": "+zstd"}.get(
        edits.suffix(packing), ""
    )


LAYER_PACKINGS = st.one_of(st.sampled_from([(), ("gz",), ("zst",)]), edits.PACKINGS)


def cases(documents: bool) -> st.SearchStrategy[Case]:
    """Make cases; with `documents` their documents are what is wrong, without it their layers."""
    right: st.SearchStrategy[list[Any]] = st.just([])
    changes = st.one_of(right, CHANGES) if documents else right
    layers = st.tuples(
        st.lists(tars.HONEST, max_size=3).map(tuple) if documents else tars.MEMBERS,
        st.just("two empty blocks") if documents else tars.ENDS,
        st.sampled_from([(), ("gz",), ("zst",)]) if documents else LAYER_PACKINGS,
    )
    return st.builds(
        Case,
        layers=st.lists(layers, min_size=1, max_size=3).map(tuple),
        layer_edits=right if documents else st.one_of(right, right, edits.EDITS),
        config=changes,
        manifest=changes,
        index=changes,
        saved=changes,
        documents=st.sampled_from([(True, True), (True, True), (True, False), (False, True), (False, False)]),
        renamed=st.sampled_from([True, True, True, False]),
        members=st.one_of(st.just(()), st.lists(tars.ODD, max_size=2).map(tuple))
        if documents
        else st.just(()),
        twice=st.one_of(st.just(()), st.lists(st.integers(0, 9), max_size=1).map(tuple)),
        packing=st.sampled_from([()] * 8 + [("gz",), ("xz",), ("gz", "cut"), ("zst",)])
        if documents
        else st.just(()),
        edits=st.one_of(right, right, edits.EDITS) if documents else right,
    )


def check(case: Case, folder: Path) -> None:
    """Hold what opens to this: all that is in it can be read, copied, packed again and laid out."""
    path = folder / "image.tar"
    path.write_bytes(case.encoded())
    contents = ContentStore(folder)
    with open_archive(path) as archive:
        image = archive.image
        ids = [archive.diff_id(one) for one in image.layers]
        tree = archive.tree(contents)
    oci.document(image.config)
    oci.document(image.manifest)
    with open_archive(path) as archive:
        assert archive.image_id
        assert [archive.diff_id(one) for one in archive.image.layers] == ids
    assert not [one for one in compare.archives(path, path, folder) if one.layer >= 0]
    whole(tree)
    same_again(tree, contents)
    stored = BytesIO()
    made = store(layer.difference(tree, None), contents, stored)
    stored.seek(0)
    again = Tree(contents)
    layer.apply(again, read_tar(layer.load(stored, made.media_type), contents))
    assert {**again.entries, "": None} == {**tree.entries, "": None}
    contained(folder, lambda root: layer.extract_tree(tree, root))
    contents.close()


HONEST = Case(
    layers=(
        ((Member(b"./a"),), "two empty blocks", ("zst",)),
        ((Member(b"./.wh.a"),), "two empty blocks", ()),
    ),
    layer_edits=[],
    config=[],
    manifest=[],
    index=[],
    saved=[],
    documents=(True, True),
    renamed=True,
    members=(),
    twice=(),
    packing=(),
    edits=[],
)

TARGETS = (
    Target("layers of an image archive", cases(documents=False), check, HONEST, 30),
    Target("documents of an image archive", cases(documents=True), check, HONEST, 40),
)
