"""Small archives that would take much memory: sparse members, headers without measure, endless documents."""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from dindkit.formats import archive_files, bounded_tar, deb
from dindkit.formats.contents import ContentStore
from dindkit.formats.deb import DebError
from dindkit.formats.image_archive import ArchiveError, open_archive
from dindkit.formats.tree import Tree, read_tar
from tests.formats.test_deb import META, VERSION, Row, ar

HUGE = 8_000_000_000


def sparse(folder: Path, name: str, kind: str) -> bytes:
    """Return what GNU tar makes of a file of 8 GB that holds one byte."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(HUGE - 1)
        file.seek(HUGE - 1)
        file.write(b"x")
    words = {"gnu": ["--format=gnu"]}.get(kind, ["--format=posix", f"--sparse-version={kind}"])
    made = subprocess.run(["tar", "-C", folder, "-cS", *words, name], capture_output=True, check=True).stdout
    path.unlink()
    assert len(made) < 20_000
    return made


KINDS = ["gnu", "0.0", "0.1", "1.0"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_sparse_member_of_a_layer(tmp_path: Path, contents: ContentStore, kind: str) -> None:
    with pytest.raises(tarfile.TarError, match="is a sparse file"):
        Tree(contents, read_tar(io.BytesIO(sparse(tmp_path, "x", kind)), contents))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", ["control.tar", "data.tar"])
def test_a_sparse_member_of_a_package(tmp_path: Path, kind: str, part: str) -> None:
    tar = gzip.compress(sparse(tmp_path, "control", kind))
    parts = (
        [VERSION, ("control.tar.gz", tar)] if part == "control.tar" else [VERSION, META, ("data.tar.gz", tar)]
    )
    (tmp_path / "x.deb").write_bytes(ar(*parts))
    with pytest.raises(DebError, match="hello is refused"):
        deb.inspect(tmp_path / "x.deb", Row())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["manifest.json", "index.json", "blobs/sha256/" + "0" * 64])
def test_a_sparse_document_of_an_image_archive(tmp_path: Path, kind: str, name: str) -> None:
    (tmp_path / "x.tar").write_bytes(sparse(tmp_path / "files", name, kind))
    with pytest.raises(ArchiveError, match="is a sparse file"), open_archive(tmp_path / "x.tar"):
        pass


def test_a_document_of_many_bytes(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("manifest.json")
        info.size = archive_files.MAX_DOCUMENT + 1
        archive.addfile(info, io.BytesIO(b" " * info.size))
    with (
        pytest.raises(ArchiveError, match=r"manifest\.json.* with more than 16000000 bytes"),
        open_archive(tmp_path / "x.tar.gz"),
    ):
        pass


@pytest.mark.parametrize("kind", bounded_tar.HEADERS)
@pytest.mark.parametrize("size", [bounded_tar.MAX_HEADER + 1, HUGE, 1 << 60])
def test_a_header_without_measure(tmp_path: Path, contents: ContentStore, kind: bytes, size: int) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = kind, size
    head = info.tobuf(tarfile.GNU_FORMAT)
    with pytest.raises(tarfile.TarError, match=r"a header of .* bytes"):
        list(read_tar(io.BytesIO(head), contents))
    (tmp_path / "x.tar").write_bytes(head)
    with pytest.raises(ArchiveError, match=r"a header of .* bytes"), open_archive(tmp_path / "x.tar"):
        pass


def test_more_members_than_a_system_has(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, contents: ContentStore
) -> None:
    monkeypatch.setattr(bounded_tar, "MAX_MEMBERS", 3)
    whole = b"".join(tarfile.TarInfo(f"x{number}").tobuf() for number in range(4)) + bytes(1024)
    with pytest.raises(tarfile.TarError, match="more than 3 members"):
        list(read_tar(io.BytesIO(whole), contents))
    assert len(list(read_tar(io.BytesIO(whole[512:]), contents))) == 3
    (tmp_path / "x.deb").write_bytes(ar(VERSION, META, ("data.tar.gz", gzip.compress(whole))))
    with pytest.raises(DebError, match="more than 3 members"):
        deb.inspect(tmp_path / "x.deb", Row())


def header(kind: bytes, text: bytes) -> bytes:
    """Return a header with `text` as its content."""
    info = tarfile.TarInfo("pax")
    info.type, info.size = kind, len(text)
    return info.tobuf(tarfile.GNU_FORMAT) + text + bytes(-len(text) % 512)


def record(name: bytes, value: bytes) -> bytes:
    """Return a pax record of fewer than a hundred bytes, or of some thousand."""
    rest = b" " + name + b"=" + value + b"\n"
    return b"%d" % (len(rest) + len(str(len(rest) + 2))) + rest


X, G, LONG, LINK = tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK
MEMBER = tarfile.TarInfo("x").tobuf(tarfile.USTAR_FORMAT)
MANY = [record(b"k%04d" % number, b"") for number in range(1001)]


def field(start: int, value: bytes) -> bytes:
    """Return a member's header with `value` at `start` and the right checksum."""
    block = bytearray(MEMBER)
    block[start : start + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        (header(G, record(b"path", b"other")), "a header for all members has their path"),
        (header(G, record(b"SCHILY.xattr.user.x", b"y")), "a header for all members has their SCHILY"),
        (MEMBER + header(b"X", record(b"path", b"other")), "a header of Solaris's"),
        (header(X, record(b"path", b"")), "a pax header has the path"),
        (header(X, record(b"linkpath", b"a\0b")), "a pax header has the linkpath"),
        (header(X, record(b"path", b"a")) + header(LONG, b"b\0"), "two headers that say the same"),
        (header(LONG, b"b\0") + header(X, record(b"path", b"a")), "two headers that say the same"),
        (header(X, record(b"path", b"a")) + header(X, record(b"path", b"b")), "two headers that say the"),
        (header(LONG, b"a\0") + header(LINK, b"c\0") + header(LONG, b"b\0"), "two headers that say the"),
        (header(X, b"".join(MANY)), "more than 1000 records"),
        (header(G, b"".join(MANY[:600])) + MEMBER + header(G, b"".join(MANY[600:])), "more than 1000"),
        (MEMBER + header(X, b"1" * 100_000), "a pax header is damaged"),
        (MEMBER + header(X, b"9 path=ab"), "a pax header is damaged"),
        (MEMBER + field(124, b"\0\0\0" + b"1000\0"), "can be read in two ways"),
        (MEMBER + field(124, b"0_1000\0"), "can be read in two ways"),
        (MEMBER + field(257, b"ustar  \0" + bytes(80) + b"other"), "can be read in two ways"),
        (MEMBER + MEMBER[:148] + b"0000000\0" + MEMBER[156:], "is damaged"),
        (MEMBER + MEMBER[:100], "cut short"),
    ],
)
def test_headers_that_readers_take_differently(
    tmp_path: Path, contents: ContentStore, headers: bytes, said: str
) -> None:
    """Docker reads layers by Go's rules: what it would see there and tarfile would not must not be hidden."""
    whole = headers + (b"" if said == "cut short" else MEMBER + bytes(1024))
    with pytest.raises(tarfile.TarError, match=said):
        list(read_tar(io.BytesIO(whole), contents))
    (tmp_path / "x.tar").write_bytes(whole)
    with pytest.raises(ArchiveError, match=said), open_archive(tmp_path / "x.tar"):
        pass


def test_headers_that_every_reader_takes_alike(contents: ContentStore) -> None:
    comment = header(G, record(b"comment", b"of git archive"))
    named = header(X, record(b"path", b"dir/file") + record(b"mtime", b"1.5")) + MEMBER
    long = header(LINK, b"to\0") + header(LONG, b"long\0") + field(156, b"2")
    big = header(X, record(b"uid", b"3000000000")) + field(108, b"\x80" + bytes(6) + b"\1")
    found = list(read_tar(io.BytesIO(comment + named + long + big + bytes(1024)), contents))
    assert [(one.path, one.link, one.uid) for one in found] == [
        ("dir/file", "", 0),
        ("long", "to", 0),
        ("x", "", 3_000_000_000),
    ]


def test_more_names_than_memory_is_for(monkeypatch: pytest.MonkeyPatch, contents: ContentStore) -> None:
    monkeypatch.setattr(bounded_tar, "MAX_NAMES", 5)
    with pytest.raises(tarfile.TarError, match="have more than 5 characters"):
        list(read_tar(io.BytesIO(MEMBER * 6 + bytes(1024)), contents))


def test_what_headers_say_besides_is_not_kept(contents: ContentStore) -> None:
    capability = record(b"SCHILY.xattr.security.capability", b"c")
    text = capability + record(b"SCHILY.xattr.user.x", b"y" * 5000) + record(b"comment", b"z")
    with bounded_tar.reading(io.BytesIO((header(X, text) + MEMBER) * 3 + bytes(1024))) as archive:
        members = list(bounded_tar.bounded(archive))
        assert archive.members == []  # type: ignore[attr-defined]
    assert [one.pax_headers for one in members] == [{"SCHILY.xattr.security.capability": "c"}] * 3


#: Reads the archive that it is given, with no more memory than an ordinary one takes.
READ = """
import resource, sys
from pathlib import Path
from dindkit.errors import DindkitError
from dindkit.formats.image_archive import open_archive
resource.setrlimit(resource.RLIMIT_AS, (400_000_000, 400_000_000))
try:
    with open_archive(Path(sys.argv[1])):
        pass
except DindkitError as error:
    sys.exit(f"error: {error}")
"""


@pytest.mark.parametrize("make", [lambda folder: sparse(folder, "manifest.json", "1.0"), lambda _: bomb()])
def test_memory_stays_bounded(tmp_path: Path, make: Callable[[Path], bytes]) -> None:
    (tmp_path / "x.tar").write_bytes(make(tmp_path / "files"))
    done = subprocess.run(
        [sys.executable, "-c", READ, tmp_path / "x.tar"],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


def bomb() -> bytes:
    """Return a compressed tar that begins with a pax header of 4 GB of zeros."""
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 4_000_000_000
    packed = zlib.compressobj(level=1, wbits=zlib.MAX_WBITS | 16)  # gzip
    head = packed.compress(info.tobuf(tarfile.GNU_FORMAT)) + packed.flush(zlib.Z_FULL_FLUSH)
    # After a full flush nothing refers to what came before, so that the same bytes can follow often.
    zeros = packed.compress(bytes(1_000_000)) + packed.flush(zlib.Z_FULL_FLUSH)
    return head + 600 * zeros
