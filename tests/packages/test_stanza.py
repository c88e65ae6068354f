"""Control fields as dpkg and apt see them: what one of the two reads in another way is refused."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from pathlib import Path

import pytest

from dindkit.formats import deb
from dindkit.formats.deb import DebError
from dindkit.packages.stanza import StanzaError, fields
from tests.formats.test_deb import VERSION, ar, header, tar


def test_fields_of_a_stanza() -> None:
    stanza = "\nPackage: app\nDescription:  short \n long: 1\n\tlong 2\nVersion:1:2\nEmpty:\n"
    assert fields(stanza) == {
        "Package": "app",
        "Description": "short\n long: 1\n\tlong 2",
        "Version": "1:2",
        "Empty": "",
    }
    assert fields("") == fields("\n") == {}


def test_names_count_in_any_case() -> None:
    found = fields("PACKAGE: app\nvalid-until: never\n")
    assert (found["Package"], found.get("Valid-Until"), "VERSION" in found) == ("app", "never", False)
    assert list(found) == ["PACKAGE", "valid-until"]


def test_a_line_ends_where_it_ends_for_dpkg() -> None:
    text = "an\x0b\x0c\x85\u2028Essential: yes"
    assert fields(f"Description: {text}\n") == {"Description": text}


PLAIN = b"Package: hello\nVersion: 1.0\nArchitecture: all\nMaintainer: a <a@example.org>\nDescription: x\n"

#: What is odd -> a control file that has it.
ODD = {
    "blank before the colon": PLAIN.replace(b"Version:", b"Version :"),
    "tab before the colon": PLAIN.replace(b"Version:", b"Version\t:"),
    "twice, in another case": PLAIN + b"version: 2.0\n",
    "twice": PLAIN + b"Version: 1.0\n",
    "revision": PLAIN + b"Revision: 9\n",
    "package revision": PLAIN + b"Package_Revision: 9\n",
    "class": PLAIN + b"Class: required\n",
    "vertical tab behind a value": PLAIN.replace(b"1.0\n", b"1.0\x0b\n"),
    "form feed before a value": PLAIN.replace(b" 1.0\n", b" \x0c1.0\n"),
    "carriage returns": PLAIN.replace(b"\n", b"\r\n"),
    "carriage return in front": PLAIN + b"\rEssential: yes\n",
    "null": PLAIN.replace(b"1.0\n", b"1.0\0x\n"),
    "end-of-file character": PLAIN.replace(b"Description", b"\x1aEssential: yes\nDescription"),
    "comment": PLAIN + b"# c: d\n",
    "comment without a colon": PLAIN + b"#c\n",
    "two stanzas": PLAIN + b"\n" + PLAIN,
    "a stanza of another": PLAIN + b"\nEssential: yes\n",
    "vertical tab in front": PLAIN + b"\x0bEssential: yes\n",
    "no-break space in front": PLAIN + b"\xc2\xa0Essential: yes\n",
    "dash in front": PLAIN + b"-x: y\n",
    "begins with a continuation": b" Essential: yes\n" + PLAIN,
    "no colon": PLAIN + b"Essential\n",
    "no name": PLAIN + b": yes\n",
}


def package(folder: Path, control: bytes) -> Path:
    """Return a .deb with one folder in it and this control file."""
    data = gzip.compress(header("./", b"5") + header("./srv/", b"5") + bytes(1024))
    meta = gzip.compress(tar(("./control", control)))
    (folder / "x.deb").write_bytes(ar(VERSION, ("control.tar.gz", meta), ("data.tar.gz", data)))
    return folder / "x.deb"


class Row:
    name, version, architecture = "hello", "1.0", "all"


@pytest.mark.parametrize("control", [pytest.param(control, id=odd) for odd, control in ODD.items()])
def test_a_control_file_that_can_be_read_in_two_ways(tmp_path: Path, control: bytes) -> None:
    with pytest.raises(StanzaError):
        fields(control.decode())
    with pytest.raises(DebError, match="The package hello is refused: in its control file: "):
        deb.inspect(package(tmp_path, control), Row())


def dpkg_sees(folder: Path, control: bytes) -> dict[str, str]:
    """Unpack with the real dpkg into an empty root; return its database's fields of the package."""
    (folder / "root").mkdir()
    for name in ("updates", "info"):
        (folder / "admin" / name).mkdir(parents=True)
    (folder / "admin" / "status").write_text("")
    words = ["dpkg", f"--admindir={folder}/admin", f"--instdir={folder}/root", "--log=/dev/null"]
    words += ["--force-not-root", "--force-bad-path", "--unpack", str(package(folder, control))]
    subprocess.run(words, capture_output=True, check=False)
    return dict(fields((folder / "admin" / "status").read_text()))


@pytest.mark.skipif(shutil.which("dpkg") is None, reason="asks Debian's own dpkg, which other systems lack")
@pytest.mark.parametrize(
    "control",
    [
        PLAIN,
        PLAIN.replace(b"Version", b"VERSION").replace(b"Package", b"pACKAGE"),
        PLAIN + b"ESSENTIAL:YES\n",
        PLAIN.replace(b": x", b":\t x \n more\n\tand more"),
        b"\n\n" + PLAIN + b"\n\n",
    ],
)
def test_what_is_read_is_what_dpkg_reads(tmp_path: Path, control: bytes) -> None:
    ours, theirs = deb.inspect(package(tmp_path, control), Row()).control, dpkg_sees(tmp_path, control)
    assert theirs.pop("Status") == "install ok unpacked"
    assert {name: ours[name].lower() for name in theirs} == {
        name: text.lower() for name, text in theirs.items()
    }
    assert len(ours) == len(theirs)


@pytest.mark.skipif(shutil.which("dpkg") is None, reason="asks Debian's own dpkg, which other systems lack")
def test_dpkg_would_have_seen_another_version(tmp_path: Path) -> None:
    """So what is refused above is no mere fault of form."""
    assert dpkg_sees(tmp_path, ODD["revision"])["Version"] == "1.0-9"


def test_a_control_archive_with_two_control_files(tmp_path: Path) -> None:
    meta = gzip.compress(tar(("./control", PLAIN), ("control", PLAIN + b"Essential: yes\n")))
    data = gzip.compress(header("./", b"5") + bytes(1024))
    (tmp_path / "x.deb").write_bytes(ar(VERSION, ("control.tar.gz", meta), ("data.tar.gz", data)))
    with pytest.raises(DebError, match="its control archive holds control twice"):
        deb.inspect(tmp_path / "x.deb", Row())


def test_a_control_file_of_many_lines(tmp_path: Path) -> None:
    """Once quadratic: a control archive of 50 MB would have kept a build for hours."""
    assert len(fields("Description: x\n" + " .\n" * 1_300_000)["Description"]) > 3_000_000
    with pytest.raises(DebError, match="its control file has more than 4000000 bytes"):
        deb.inspect(package(tmp_path, PLAIN + b" .\n" * 1_400_000), Row())
