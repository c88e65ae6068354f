"""Layers as registries and archives hold them, made of entries."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import IO

from dindkit.formats import layer
from dindkit.formats.contents import ContentStore
from dindkit.formats.entry import Entry
from dindkit.formats.layer import Layer
from dindkit.formats.tree import write


def store(entries: Iterable[Entry], contents: ContentStore, out: IO[bytes]) -> Layer:
    """Write `entries` to `out` as a tar, compressed as the product does it."""
    tar = io.BytesIO()
    write(tar, entries, contents)
    return layer.compress([tar.getvalue()], tar.tell(), out)
