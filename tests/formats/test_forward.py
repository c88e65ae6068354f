"""A stream that tarfile takes for a file gives the bytes of the stream, however it is read."""

from __future__ import annotations

import io
import random
import tarfile

import pytest

from dindkit.formats.forward import BUFFER, Content, Forward

CONTENT = random.Random(0).randbytes(3 * BUFFER)


class Dripping:
    """A stream that returns less than it is asked for."""

    def __init__(self, content: bytes) -> None:
        self._file, self._random = io.BytesIO(content), random.Random(1)

    def read(self, size: int) -> bytes:
        return self._file.read(self._random.randint(1, size))


@pytest.mark.parametrize("seed", range(20))
def test_reading_and_skipping(seed: int) -> None:
    chance = random.Random(seed)
    stream, at = Forward(Dripping(CONTENT)), 0
    while at < len(CONTENT):
        size = int(chance.choice([0, 1, 512, 10_000, BUFFER, BUFFER + 1]))
        if chance.random() < 0.3:
            at = min(at + size, len(CONTENT))
            assert stream.seek(at) == at
        assert stream.read(size) == CONTENT[at : at + size]
        at = min(at + size, len(CONTENT))
        assert stream.tell() == at
    assert stream.read(1) == b""
    assert stream.seek(at + 1) == at


def test_going_back_is_refused() -> None:
    stream = Forward(io.BytesIO(CONTENT))
    stream.read(10)
    with pytest.raises(tarfile.StreamError):
        stream.seek(9)


@pytest.mark.parametrize("sizes", [[], [0, 1, 511, 512, 513], [BUFFER - 512, BUFFER, 2 * BUFFER, 5]])
@pytest.mark.parametrize("read", ["all", "some", "none"])
def test_members_of_a_tar(sizes: list[int], read: str) -> None:
    """What is not read of a member is skipped, and the next one is found."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as out:
        for size in sizes:
            member = tarfile.TarInfo(f"file-{size}")
            member.size = size
            out.addfile(member, io.BytesIO(CONTENT[:size]))
    stream: object = Forward(Dripping(packed.getvalue()))
    found = []
    with tarfile.TarFile(fileobj=stream) as archive:  # type: ignore[arg-type]
        for member in archive:
            content = Content(archive, member)
            found.append(member.size)
            if read == "all":
                assert content.read() == CONTENT[: member.size]
                assert content.read() == content.read(5) == b""
            elif read == "some":
                assert content.read(100) == CONTENT[: member.size][:100]
    assert found == sizes


def test_a_member_that_is_cut_short() -> None:
    member = tarfile.TarInfo("file")
    member.size = 1000
    stream: object = Forward(io.BytesIO(member.tobuf() + bytes(999)))
    with tarfile.TarFile(fileobj=stream) as archive:  # type: ignore[arg-type]
        content = Content(archive, next(iter(archive)))
        with pytest.raises(tarfile.ReadError):
            content.read()
