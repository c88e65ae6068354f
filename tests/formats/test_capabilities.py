"""File capabilities: what is written for a recipe is what Debian's own programs read."""

from __future__ import annotations

import pytest

from dindkit.formats import capabilities

#: As `setcap cap_setuid=ep` and `setcap cap_chown,cap_bpf=ep` wrote it.
SETUID = bytes.fromhex("0100000280000000000000000000000000000000")
CHOWN_BPF = bytes.fromhex("0100000201000000000000008000000000000000")


@pytest.mark.parametrize(("text", "value"), [("cap_setuid=ep", SETUID), ("cap_chown,cap_bpf=ep", CHOWN_BPF)])
def test_what_setcap_writes(text: str, value: bytes) -> None:
    assert capabilities.encode(text) == value
    assert capabilities.decode(value) == text


@pytest.mark.parametrize(
    "text", ["", "cap_setuid", "setuid=ep", "cap_setuid=eip", "cap_x=ep", "cap_chown,=ep"]
)
def test_what_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="cap"):
        capabilities.encode(text)
