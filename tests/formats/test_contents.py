"""Contents are kept once; what an adopted file has is not written again, whatever happens to that file."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from dindkit.errors import DamagedError
from dindkit.formats.contents import CHUNK, ContentStore

#: More than a chunk: what is smaller is hashed before it would be written.
LARGE = bytes(range(256)) * (3 * CHUNK // 256) + b"end"


class Recorded(io.BytesIO):
    """A stream that calls `change` before its read number `number`."""

    def __init__(self, content: bytes, change: Callable[[], object] = lambda: None, number: int = -1) -> None:
        super().__init__(content)
        self._change, self._number, self._reads = change, number, 0

    def read(self, size: int | None = -1) -> bytes:
        self._reads += 1
        if self._reads == self._number:
            self._change()
        return super().read(size)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ContentStore]:
    with closing(ContentStore(tmp_path)) as made:
        yield made


def named(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def adopted(store: ContentStore, path: Path, content: bytes, before: bytes = b"header") -> Path:
    """Let `store` read `content` from a file at `path`, after other bytes."""
    path.write_bytes(before + content)
    store.adopt(path, {named(content): (len(before), len(content))})
    return path


def written(store: ContentStore) -> int:
    """Return how many bytes the store holds itself."""
    return store._end


@pytest.mark.parametrize("content", [LARGE, b"small"])
def test_what_an_adopted_file_has_is_not_written(tmp_path: Path, store: ContentStore, content: bytes) -> None:
    adopted(store, tmp_path / "package", content)
    assert store.add(io.BytesIO(content), size=len(content)) == (named(content), len(content))
    assert written(store) == 0
    assert store.read(named(content)) == content


@pytest.mark.parametrize("place", [0, 1, CHUNK - 1, CHUNK, 2 * CHUNK + 7, len(LARGE) - 1])
def test_what_differs_somewhere_is_written_whole(tmp_path: Path, store: ContentStore, place: int) -> None:
    adopted(store, tmp_path / "package", LARGE)
    other = LARGE[:place] + bytes([LARGE[place] ^ 1]) + LARGE[place + 1 :]
    assert store.add(io.BytesIO(other), size=len(other)) == (named(other), len(other))
    assert written(store) == len(other)
    assert store.read(named(other)) == other
    assert store.read(named(LARGE)) == LARGE


@pytest.mark.parametrize("content", [LARGE[:-1], LARGE[: 2 * CHUNK], LARGE + b"more", LARGE[:10], b""])
def test_another_size_than_was_promised(tmp_path: Path, store: ContentStore, content: bytes) -> None:
    adopted(store, tmp_path / "package", LARGE)
    assert store.add(io.BytesIO(content), size=len(LARGE)) == (named(content), len(content))
    assert store.read(named(content)) == content


def test_no_more_than_the_limit(tmp_path: Path, store: ContentStore) -> None:
    adopted(store, tmp_path / "package", LARGE)
    found = store.add(io.BytesIO(LARGE), limit=CHUNK + 5, size=len(LARGE))
    assert found == (named(LARGE[: CHUNK + 5]), CHUNK + 5)
    assert store.read(found[0]) == LARGE[: CHUNK + 5]


def test_a_file_that_holds_something_else_than_it_should(tmp_path: Path, store: ContentStore) -> None:
    """What is read decides: a file that was changed before gives it no other name, and no other bytes."""
    path = adopted(store, tmp_path / "package", LARGE)
    other = b"x" * len(LARGE)
    path.write_bytes(b"header" + other)
    assert store.add(io.BytesIO(other), size=len(other)) == (named(other), len(other))
    assert store.read(named(other)) == other
    with pytest.raises(DamagedError):
        store.read(named(LARGE))


def test_a_file_that_changes_meanwhile(tmp_path: Path, store: ContentStore) -> None:
    path = adopted(store, tmp_path / "package", LARGE)
    other = LARGE[:-1] + b"X"
    changed = Recorded(other, lambda: path.write_bytes(b"header" + b"y" * len(LARGE)), number=3)
    with pytest.raises(DamagedError, match="package is damaged or forged"):
        store.add(changed, size=len(other))
    assert store.add(io.BytesIO(b"next")) == (named(b"next"), 4)
    assert store.read(named(b"next")) == b"next"


def test_a_file_that_is_gone_is_no_longer_compared(tmp_path: Path, store: ContentStore) -> None:
    adopted(store, tmp_path / "package", LARGE).unlink()
    other = LARGE[:-1] + b"X"
    assert store.add(io.BytesIO(other), size=len(other)) == (named(other), len(other))
    assert store.read(named(other)) == other


def test_each_content_is_there_once(store: ContentStore) -> None:
    for _ in range(2):
        assert store.add(io.BytesIO(LARGE)) == (named(LARGE), len(LARGE))
        assert store.add(io.BytesIO(b"small")) == (named(b"small"), 5)
    assert written(store) == len(LARGE) + 5
    assert store.read(named(LARGE)) == LARGE
    assert store.read(named(b"small")) == b"small"
    assert store.add(io.BytesIO(b"")) == (named(b""), 0)
