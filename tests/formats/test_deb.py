"""Packages that lie, climb out, point outside or explode are refused, by name."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import os
import subprocess
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest
import zstandard

from dindkit.formats import deb
from dindkit.formats.deb import Deb, DebError
from dindkit.formats.decompression import READ
from tests.support.deb import build


@dataclass(frozen=True)
class Row:
    name: str = "hello"
    version: str = "1:2.0-3"
    architecture: str = "amd64"


CONTROL = {"Package": "hello", "Version": "1:2.0-3", "Architecture": "amd64", "Description": "a\n b\n c"}


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


def writable(name: str) -> tarfile.TarInfo:
    info = member(name, tarfile.DIRTYPE)
    info.mode = 0o777
    return info


def package(
    tmp_path: Path, members: Iterable[tarfile.TarInfo] = (), control: dict[str, str] | None = None
) -> Path:
    path = tmp_path / "hello.deb"
    files = {"usr/bin/hello": "#!/bin/sh\n"}
    path.write_bytes(build(CONTROL | (control or {}), files, {}, [(one, b"") for one in members]))
    return path


def test_an_honest_package_is_read(tmp_path: Path) -> None:
    found = deb.inspect(package(tmp_path), Row())
    assert "usr/bin/hello" in [one.path for one in found.members]
    assert found.control["Description"] == "a\n b\n c"


def test_a_folder_that_is_there_twice_alike(tmp_path: Path) -> None:
    """Some programs that make packages write each file's folders before it."""
    later = member("./x", tarfile.DIRTYPE)
    later.mtime = 7
    found = deb.inspect(package(tmp_path, [member("./x", tarfile.DIRTYPE), later]), Row())
    assert [one.path for one in found.members].count("x") == 2


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([member("./usr/../../etc/passwd")], "leads outside the root"),
        ([member("../etc/passwd")], "leads outside the root"),
        ([member("/etc/passwd")], "leads outside the root"),
        ([member("./usr/lib/x", tarfile.SYMTYPE, "../../../etc")], "leads outside the root"),
        ([member("./x", tarfile.SYMTYPE, "/usr/../../etc")], "leads outside the root"),
        ([member("./x", tarfile.LNKTYPE, "./etc/shadow")], "is no file of it"),
        ([member("./x", tarfile.LNKTYPE, "../etc/shadow")], "is no file of it"),
        ([member("./dev/sda", tarfile.BLKTYPE)], "a device"),
        ([member("./dev/kmsg", tarfile.CHRTYPE)], "a device"),
        ([member("./run/pipe", tarfile.FIFOTYPE)], "a pipe"),
        ([member("./usr//bin/x")], "not a plain one"),
        ([member("./usr/./bin/x")], "not a plain one"),
        ([member("./usr/bin/x\ny")], "has more than one line"),
        ([member("./x", tarfile.SYMTYPE, "")], "leads nowhere"),
        ([member("./x"), member("./x")], r"holds \./x twice"),
        ([member("./x"), member("./y", tarfile.LNKTYPE, "./x"), member("./x")], r"holds \./x twice"),
        ([member("./x"), member("./x", tarfile.SYMTYPE, "y")], r"holds \./x twice"),
        ([member("./x"), member("./x", tarfile.LNKTYPE, "./x")], r"holds \./x twice"),
        ([member("./x", tarfile.DIRTYPE), member("./x", tarfile.SYMTYPE, "y")], r"holds \./x twice"),
        ([member("./x", tarfile.DIRTYPE), writable("./x")], r"holds \./x twice"),
    ],
)
def test_a_path_or_link_that_is_wrong(tmp_path: Path, members: list[tarfile.TarInfo], said: str) -> None:
    with pytest.raises(DebError, match=f"hello.*{said}"):
        deb.inspect(package(tmp_path, members), Row())


@pytest.mark.parametrize(
    ("field", "value"), [("Package", "other"), ("Version", "1:2.0-4"), ("Architecture", "arm64")]
)
def test_a_control_file_that_says_something_else(tmp_path: Path, field: str, value: str) -> None:
    with pytest.raises(DebError, match=f"its {field} is {value}"):
        deb.inspect(package(tmp_path, control={field: value}), Row())


Part = tuple[str, bytes]


def ar(*parts: Part) -> bytes:
    out = b"!<arch>\n"
    for name, content in parts:
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
        out += content + b"\n" * (len(content) % 2)
    return out


def tar(*content: tuple[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in content:
            archive.addfile(member(name, size=len(data)), io.BytesIO(data))
    return out.getvalue()


def stanza(version: str = CONTROL["Version"]) -> bytes:
    return "".join(f"{name}: {value}\n" for name, value in (CONTROL | {"Version": version}).items()).encode()


VERSION: Part = ("debian-binary", b"2.0\n")
META: Part = ("control.tar.gz", gzip.compress(tar(("./control", stanza()))))
DATA: Part = ("data.tar.gz", gzip.compress(tar(("./usr/bin/x", b"x"))))


def inspected(tmp_path: Path, *parts: Part) -> Deb:
    path = tmp_path / "made.deb"
    path.write_bytes(ar(*parts))
    return deb.inspect(path, Row())


def files(found: Deb) -> list[str]:
    return [one.path for one in found.members if one.kind == "file"]


def made(tmp_path: Path, suffix: str, data: bytes) -> Path:
    path = tmp_path / "made.deb"
    path.write_bytes(ar(VERSION, META, (f"data.tar{suffix}", data)))
    return path


def compressed(suffix: str, data: bytes) -> bytes:
    if suffix == ".zst":
        return zstandard.ZstdCompressor(write_checksum=True).compress(data)
    return {"": data, ".gz": gzip.compress(data), ".xz": lzma.compress(data)}[suffix]


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz", ".zst"])
def test_each_compression_of_deb_5(tmp_path: Path, suffix: str) -> None:
    content = tar(("./usr/bin/x", b"x" * 100_000))
    assert deb.inspect(made(tmp_path, suffix, compressed(suffix, content)), Row()).unpacked == 100_000


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_a_bomb_is_given_up(tmp_path: Path, suffix: str) -> None:
    bomb = compressed(suffix, tar(("./zeros", b"\0" * 50_000_000)))
    with pytest.raises(DebError, match="unpacks to more than it may"):
        deb.inspect(made(tmp_path, suffix, bomb), Row(), limit=10_000_000)


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_damage_is_a_sentence(tmp_path: Path, suffix: str) -> None:
    whole = made(
        tmp_path, suffix, compressed(suffix, tar(("./usr/bin/x", bytes(range(256)) * 4000)))
    ).read_bytes()
    for cut in (10, 100, len(whole) // 2, len(whole) - 20):
        path = tmp_path / "cut.deb"
        path.write_bytes(whole[:cut])
        with pytest.raises(DebError, match="hello"):
            deb.inspect(path, Row())
    path.write_bytes(whole[:-300] + b"\xff" * 100 + whole[-200:])
    with pytest.raises(DebError, match="hello"):
        deb.inspect(path, Row())


def test_an_unknown_compression(tmp_path: Path) -> None:
    with pytest.raises(DebError, match=r"compressed as \.lz4"):
        deb.inspect(made(tmp_path, ".lz4", b""), Row())


OTHER_META: Part = ("control.tar.gz", gzip.compress(tar(("./control", stanza("9")))))
OTHER_DATA: Part = ("data.tar.gz", gzip.compress(tar(("./usr/bin/other", b"x"))))


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ((VERSION, META, DATA, OTHER_META), "member control.tar.gz is not where"),
        ((VERSION, META, OTHER_META, DATA), "member control.tar.gz is not where"),
        ((VERSION, OTHER_META, META, DATA), "member control.tar.gz is not where"),
        ((VERSION, META, DATA, OTHER_DATA), "member data.tar.gz is not where"),
        ((VERSION, DATA, META), "member data.tar.gz is not where"),
        ((META, VERSION, DATA), "member control.tar.gz is not where"),
        ((("_before", b""), VERSION, META, DATA), "member _before is not where"),
        ((VERSION, META, ("extra", b""), DATA), "member extra is not where"),
        ((VERSION, META, DATA, ("extra", b"")), "member extra is not where"),
        ((VERSION, (" control.tar.gz", META[1]), DATA), "member  control.tar.gz is not where"),
        ((VERSION, META), "it has no data.tar"),
        ((VERSION, DATA), "member data.tar.gz is not where"),
        ((), "it has no debian-binary"),
        ((("debian-binary", b"3.0\n"), META, DATA), "unknown format version"),
        ((("debian-binary", b"2.x\n"), META, DATA), "unknown format version"),
        ((("debian-binary", b"2.0"), META, DATA), "unknown format version"),
        ((("debian-binary.x", b"2.0\n"), META, DATA), "unknown format version"),
    ],
)
def test_parts_that_are_not_deb_5s(tmp_path: Path, parts: tuple[Part, ...], said: str) -> None:
    """The first of each is what dpkg takes, so there must be no other."""
    with pytest.raises(DebError, match=said):
        inspected(tmp_path, *parts)


def test_parts_that_deb_5_lets_us_pass_over(tmp_path: Path) -> None:
    newer = ("debian-binary", b"2.1\nmore\n")
    found = inspected(tmp_path, newer, ("_a", b"1"), META, ("_b", b"22"), DATA, ("_gpgorigin", b"333"))
    assert files(found) == ["usr/bin/x"]
    assert files(inspected(tmp_path, *((f"{name}/", content) for name, content in (VERSION, META, DATA))))


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz", ".zst"])
def test_a_member_that_is_said_to_be_longer_than_the_file(tmp_path: Path, suffix: str) -> None:
    """Its compressed data is whole, and dpkg-deb would not take it. What is left may be a byte of padding."""
    data = compressed(suffix, tar(("./x", b""))) if suffix else tar(("./x", b""))
    path = made(tmp_path, suffix, data)
    whole = path.read_bytes()
    assert whole.count(b"%-10d`" % len(data)) == 1
    path.write_bytes(whole.replace(b"%-10d`" % len(data), b"%-10d`" % 8_589_934_592))
    with pytest.raises(DebError, match=r"it is cut short|bytes follow the end of its compressed data"):
        deb.inspect(path, Row())


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
@pytest.mark.parametrize("size", [1, 100_000])
def test_bytes_behind_the_compressed_data(tmp_path: Path, suffix: str, size: int) -> None:
    """With a second member of gzip dpkg goes on, and would unpack what nobody has looked at."""
    first, second = (compressed(suffix, content) for content in (tar(("./x", b"")), os.urandom(size)))
    with pytest.raises(DebError, match="bytes follow the end of its compressed data"):
        deb.inspect(made(tmp_path, suffix, first + second), Row())


def test_a_second_member_of_gzip_behind_a_whole_number_of_reads(tmp_path: Path) -> None:
    first = compressed(".gz", tar(("./x", b"")))
    name = b"n" * (READ - len(first) - 1) + b"\0"  # FNAME, RFC 1952
    first = first[:3] + b"\x08" + first[4:10] + name + first[10:]
    deb.inspect(made(tmp_path, ".gz", first), Row())
    with pytest.raises(DebError, match="bytes follow the end of its compressed data"):
        deb.inspect(made(tmp_path, ".gz", first + gzip.compress(b"")), Row())


def header(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, **fields: tuple[int, bytes]) -> bytes:
    """Return a header of GNU's format with `fields` (offset, bytes) in it, and a checksum that is right."""
    block = bytearray(member(name, kind, size=size).tobuf(tarfile.GNU_FORMAT))
    for start, content in fields.values():
        block[start : start + len(content)] = content
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def long(name: bytes, size: int, kind: bytes = tarfile.GNUTYPE_LONGNAME) -> bytes:
    return header("././@LongLink", kind, size) + name.ljust(size + -size % 512, b"\0")


EVIL = header("./evil", mode=(100, b"garbage\0"))


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(EVIL, id="a mode that dpkg does not read"),
        pytest.param(header("./evil", device=(329, b"garbage\0")), id="a device that dpkg does not read"),
        pytest.param(header("./evil", prefix=(345, b"usr/share")), id="a prefix that dpkg does not read"),
        pytest.param(header("./usr/", tarfile.AREGTYPE, 512) + header("./evil"), id="a folder with content"),
        pytest.param(header("./evil", b"7"), id="a type that dpkg does not know"),
        pytest.param(header("pax", b"x", 512) + b"17 path=./evil\n\n".ljust(512, b"\0"), id="pax"),
        pytest.param(long(b"./evil/in", 6) + header("./x"), id="a long name that goes on in the padding"),
        pytest.param(long(b"./x", 4) + long(b"./evil", 7) + header("./x"), id="two long names"),
        pytest.param(long(b"", 0) + header("./x"), id="a long name of no bytes"),
        pytest.param(long(b"./x", 5000) + header("./x"), id="a long name of too many bytes"),
        pytest.param(header("./a/", tarfile.DIRTYPE, 512) + EVIL, id="one that is no folder's content"),
    ],
)
def test_a_header_that_dpkg_reads_in_another_way(tmp_path: Path, headers: bytes) -> None:
    data = header("./usr/", tarfile.DIRTYPE) + headers + bytes(1024)
    with pytest.raises(DebError, match=r"the header of '.*' in its tar can be read in two ways"):
        deb.inspect(made(tmp_path, ".gz", gzip.compress(data)), Row())


def test_long_names_of_gnus_format(tmp_path: Path) -> None:
    path, link = "usr/share/" + "x" * 200, "y" * 200
    links = [member(path + str(number), tarfile.SYMTYPE, link) for number in range(2)]
    found = deb.inspect(package(tmp_path, links), Row())
    assert [(one.path, one.link) for one in found.members[-2:]] == [(path + "0", link), (path + "1", link)]


def test_a_control_archive_that_is_a_bomb(tmp_path: Path) -> None:
    bomb = gzip.compress(tar(("./control", stanza()), ("./postinst", bytes(deb.MAX_CONTROL))))
    with pytest.raises(DebError, match="unpacks to more than it may"):
        inspected(tmp_path, VERSION, ("control.tar.gz", bomb), DATA)


@pytest.mark.parametrize(
    "odd",
    [
        header("./postinst", tarfile.SYMTYPE),
        header("./a/", tarfile.DIRTYPE),
        header("./a/postinst"),
        header("./two\nlines"),
        header("./\x1b[2J"),
        header("./.hidden"),
    ],
)
def test_a_control_archive_with_more_than_plain_files(tmp_path: Path, odd: bytes) -> None:
    control = gzip.compress(header("./", tarfile.DIRTYPE) + odd + tar(("./control", stanza())))
    with pytest.raises(DebError, match=r"(?s)its control archive holds .*, which is not a plain file"):
        inspected(tmp_path, VERSION, ("control.tar.gz", control), DATA)


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz", ".zst"])
def test_what_was_checked_is_kept_without_compression(tmp_path: Path, suffix: str) -> None:
    """Another program reads the same from it, and where each content lies is known."""
    content = b"#!/bin/sh\nexit 7\n"
    data = compressed(suffix, tar(("./usr/bin/x", content), ("./usr/bin/y", b"y" * 5001)))
    path = made(tmp_path, suffix, data)
    with (tmp_path / "kept.deb").open("wb") as out, path.open("rb") as file:
        hashed = deb.Hashed(file, path.stat().st_size)
        found = deb.read(hashed, Row(), out=out)
        assert hashed.finish() == (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size)
    kept = (tmp_path / "kept.deb").read_bytes()
    assert b"control.tar     " in kept
    assert b"data.tar        " in kept
    for word in ("--fsys-tarfile", "--ctrl-tarfile"):
        theirs = [
            subprocess.run(["dpkg-deb", word, one], capture_output=True, check=True).stdout
            for one in (path, tmp_path / "kept.deb")
        ]
        assert theirs[0] == theirs[1]
    one = next(member for member in found.members if member.path == "usr/bin/x")
    assert kept[one.start : one.start + one.entry.size] == content
    assert one.entry.digest == hashlib.sha256(content).hexdigest()


def test_a_file_is_hashed_whole_and_within_its_bound(tmp_path: Path) -> None:
    path = made(tmp_path, ".gz", compressed(".gz", tar(("./x", b"x"))))
    size = path.stat().st_size
    with path.open("ab") as file:
        file.truncate(1 << 40)
    with path.open("rb") as file:
        hashed = deb.Hashed(file, size)
        assert hashed.finish()[1] == size + 1
