"""Licences in copyright files: of the format, of older drafts of it, and of none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dindkit.packages.copyright import licences

FORMAT = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (f"{FORMAT}\nFiles: *\nLicense: GPL-2+\n text\n\nFiles: a\nLicense: Expat\n", ("Expat", "GPL-2+")),
        (f"{FORMAT}License: ISC\n\nLicense: GPL-3\n only a text\n", ("ISC",)),
        (f"{FORMAT}\n \nFILES: *\nlicense:  GPL-1+ or Artistic  \n", ("GPL-1+ or Artistic",)),
        (f"\ufeff{FORMAT}\r\n\r\nFiles: *\r\nLicense: MIT,\r\n", ("MIT",)),
        ("Format-Specification: http://dep.debian.net/5\n\nFiles: *\nLicense: LGPL\n", ("LGPL",)),
        ("This is plain.\n\nFiles: *\nLicense: GPL-2\n", ()),
        ("On the Format: below\nLicense: GPL-2\n", ()),
        (f"{FORMAT}\nFiles: *\nLicense:\n only a text\n", ()),
        (f"{FORMAT}\nFiles: *\nLicense: {'x' * 5000}\n", ()),
        ("", ()),
    ],
)
def test_names(text: str, names: tuple[str, ...]) -> None:
    assert licences(text) == names


@given(st.text())
def test_any_text_has_an_answer(text: str) -> None:
    assert isinstance(licences(FORMAT + text), tuple)
