"""Stanzas as archives and packages write them."""

from __future__ import annotations

from dindkit.packages import index


def test_fields_of_a_stanza() -> None:
    stanza = "Package: app\nDescription:  short \n long: 1\n\tlong 2\nVersion:1:2\nEmpty:\n"
    assert index.fields(stanza) == {
        "Package": "app",
        "Description": "short\n long: 1\n\tlong 2",
        "Version": "1:2",
        "Empty": "",
    }


def test_lines_outside_of_fields_are_passed_over() -> None:
    assert index.fields(" Depends: lost\n\nPackage: app\nnoise\n\n") == {"Package": "app"}


def test_a_line_ends_where_it_ends_for_dpkg() -> None:
    text = "an\x0b\x0c\x85\u2028Essential: yes"
    assert index.fields(f"Description: {text}\n") == {"Description": text}
