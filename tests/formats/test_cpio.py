"""A cpio archive that we write is what cpio reads; the kernel reads one in tests/vm."""

from __future__ import annotations

import io
import os
import stat
import subprocess
from pathlib import Path

import pytest

from dindkit.formats import cpio
from dindkit.formats.entry import Entry
from dindkit.process import require

CONTENT = [
    (Entry("bin", "dir", 0o750), b""),
    (Entry("bin/sh", "file", 0o755, mtime=1_700_000_000), b"#!/bin/x\n"),
    (Entry("empty", "file", 0o600), b""),
    (Entry("init", "symlink", 0o777, link="bin/sh"), b""),
]


def test_cpio_unpacks_it(tmp_path: Path) -> None:
    out = io.BytesIO()
    cpio.write(out, CONTENT)
    unpack = [require("cpio"), "--extract", "--quiet", "--preserve-modification-time"]
    subprocess.run(unpack, input=out.getvalue(), cwd=tmp_path, check=True)
    assert (tmp_path / "bin/sh").read_bytes() == b"#!/bin/x\n"
    found = (tmp_path / "bin/sh").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_mtime) == (0o755, 1_700_000_000)
    assert stat.S_IMODE((tmp_path / "bin").stat().st_mode) == 0o750
    assert (tmp_path / "empty").stat().st_size == 0
    assert (tmp_path / "init").readlink() == Path("bin/sh")
    assert len(list(tmp_path.rglob("*"))) == len(CONTENT)


@pytest.mark.skipif(os.geteuid() != 0, reason="devices need root")
def test_it_holds_a_console(tmp_path: Path) -> None:
    out = io.BytesIO()
    cpio.write(out, [(Entry("console", "char", 0o600, device=(5, 1)), b"")])
    subprocess.run([require("cpio"), "--extract", "--quiet"], input=out.getvalue(), cwd=tmp_path, check=True)
    found = (tmp_path / "console").stat()
    assert (os.major(found.st_rdev), os.minor(found.st_rdev)) == (5, 1)
