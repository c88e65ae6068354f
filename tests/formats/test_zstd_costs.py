"""What each path costs in a layer that zstd has compressed, by what is known of its content."""

from __future__ import annotations

import io
import random
from pathlib import Path

import pytest

from dindkit.formats import layer
from dindkit.formats.contents import ContentStore
from dindkit.formats.tree import Tree
from dindkit.formats.zstd_costs import costs
from tests.support.layers import store

SIZE = 3_000_000


def packed(tmp_path: Path, files: dict[str, bytes]) -> tuple[bytes, dict[str, int]]:
    contents = ContentStore(tmp_path)
    tree = Tree(contents)
    for path, content in files.items():
        tree.put(path, content)
    out = io.BytesIO()
    store(layer.difference(tree, None), contents, out)
    return out.getvalue(), dict(costs(io.BytesIO(out.getvalue())))


def test_each_path_costs_what_its_content_is_worth(tmp_path: Path) -> None:
    noise = random.Random(1).randbytes(SIZE)
    blob, found = packed(
        tmp_path, {"a-noise": noise, "b-zeros": bytes(SIZE), "c-again": noise, "d-small": b"x"}
    )
    assert sum(found.values()) == len(blob)
    assert found["a-noise"] == pytest.approx(SIZE, rel=0.05)
    assert found["b-zeros"] < SIZE // 20
    assert found["c-again"] < SIZE // 20  # it is the first one once more
    assert list(found) == ["a-noise", "b-zeros", "c-again", "d-small"]


def test_small_files_share_a_block_by_their_bytes(tmp_path: Path) -> None:
    noise = random.Random(2).randbytes(60_000)
    blob, found = packed(tmp_path, {"a": noise[:10_000], "b": noise[10_000:]})
    assert found["b"] / found["a"] == pytest.approx(5, rel=0.15)  # with a header each
    assert sum(found.values()) == len(blob)


def test_an_empty_layer_costs_nothing_for_any_path(tmp_path: Path) -> None:
    assert packed(tmp_path, {})[1] == {}


def test_a_cut_layer_is_an_error_of_its_bytes(tmp_path: Path) -> None:
    blob, _ = packed(tmp_path, {"a": random.Random(3).randbytes(SIZE)})
    with pytest.raises(layer.bad_bytes()):
        costs(io.BytesIO(blob[: len(blob) // 2]))
