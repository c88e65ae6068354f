"""CONTRIBUTING.md sends nobody to a file that is not there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_file_it_names_exists() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = re.findall(r"`((?:dindkit|images|keys|tests|scripts|tasks)[\w./-]*)`", text)
    assert len(named) > 15
    for name in named:
        assert (ROOT / name.replace("NAME", "dind")).exists(), name
