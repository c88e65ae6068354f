"""Compare two trees, or two images layer by layer, path by path."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from dindkit.formats.contents import ContentStore
from dindkit.formats.entry import Entry, by_bytes
from dindkit.formats.image_archive import Archive, open_archive
from dindkit.formats.image_layout import Layout

#: The fields of an entry that are compared, with the words that name them in a difference.
ASPECTS = {
    "kind": "type",
    "mode": "mode",
    "uid": "owner",
    "gid": "group",
    "link": "link",
    "digest": "content",
    "capability": "capability",
    "device": "device",
}


@dataclass(frozen=True)
class Difference:
    """One difference: of a path in two layers or trees, or of two layers or images as a whole."""

    #: Index of the layer, the lowest is 0; -1 for the image as a whole.
    layer: int
    #: Empty for the root, and for a layer or an image as a whole.
    path: str
    #: `missing`, `extra`, or the words of ASPECTS and `time`, joined by commas; or a description.
    how: str
    #: What was wanted and what was found, for people.
    detail: str = ""

    def __str__(self) -> str:
        """Return one line of ASCII: a hostile name could hold line breaks or terminal codes."""
        where = f"layer {self.layer}: /{self.path}" if self.layer >= 0 else "image"
        text = f"{where}: {self.how}{f' ({self.detail})' if self.detail else ''}"
        return text.encode("unicode_escape").decode("ascii")


def _said(name: str, value: object) -> str:
    if name == "mode" and isinstance(value, int):
        return f"{value:04o}"
    if isinstance(value, bytes):
        return value.hex() or "none"
    return str(value)[:16] if name == "digest" else str(value)


def entries(
    wanted: Iterable[Entry], found: Iterable[Entry], layer: int = 0, times: bool = True
) -> Iterator[Difference]:
    """Yield every path on which two sets of entries differ, in order of path; `times` compares mtimes too."""
    left = {entry.path: entry for entry in wanted}
    right = {entry.path: entry for entry in found}
    aspects = ASPECTS | ({"mtime": "time"} if times else {})
    for path in sorted(left.keys() | right.keys(), key=by_bytes):
        one, other = left.get(path), right.get(path)
        if one is None:
            yield Difference(layer, path, "extra")
        elif other is None:
            yield Difference(layer, path, "missing")
        else:
            names = [name for name in aspects if getattr(one, name) != getattr(other, name)]
            if names:
                detail = ", ".join(
                    f"{_said(name, getattr(one, name))} became {_said(name, getattr(other, name))}"
                    for name in names
                )
                yield Difference(layer, path, ", ".join(aspects[name] for name in names), detail)


def archives(wanted: Path, found: Path, work: Path) -> list[Difference]:
    """Return every difference between two image archives, as `image` does. Raises ArchiveError."""
    with open_archive(wanted) as left:
        return image(left, found, work)


def image(wanted: Archive | Layout, found: Path, work: Path) -> list[Difference]:
    """Return every difference between an image and an archive; none where they are equal.

    Layers of `found` are hashed from their bytes; its own documents are not believed. They are hashed
    uncompressed, because engines compress anew. A layer that differs is compared path by path. `work` is for
    temporary files. Raises ArchiveError.
    """
    differences: list[Difference] = []
    contents = ContentStore(work)
    with open_archive(found) as right:
        for index, (one, other) in enumerate(zip_longest(wanted.image.layers, right.image.layers)):
            diff_id = right.diff_id(other) if other else "nothing"
            if one and one.diff_id == diff_id:
                continue
            before = wanted.entries(one, contents) if one else ()
            after = right.entries(other, contents, believed=True) if other else ()
            detail = f"{one.diff_id if one else 'nothing'} became {diff_id}"
            paths = list(entries(before, after, index))
            differences += paths or [Difference(index, "", "bytes of the layer", detail)]
        # Where layers differ, the diff_ids differ too; that is not reported twice.
        said, says = ({**one.image.config, "rootfs": None} for one in (wanted, right))
        if said != says or (wanted.image_id != right.image_id and not differences):
            detail = f"{wanted.image_id} became {right.image_id}"
            differences.append(Difference(-1, "", "configuration", detail))
    contents.close()
    return differences
