#!/usr/bin/env python3
"""Take a picture of a page of `invoke audit --html` as a browser shows it.

    scripts/invoke audit --html audit.html && scripts/picture_page.py audit.html docs/audit-page.png

The browser is chromium without a window. The page is self-contained, and so is the picture the same wherever
the page is; fonts are the machine's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

#: Pixels. A README is shown some 900 wide.
WIDTH, HEIGHT = 1120, 810

#: Bytes that the picture may have: it is in the repository, and in front of everybody who opens README.
LARGEST = 200_000


def take(page: Path, picture: Path) -> None:
    """Write what chromium shows of `page` to `picture`, a PNG. Raises RuntimeError where that fails."""
    chromium = shutil.which("chromium")
    if not chromium:
        raise RuntimeError("chromium is not installed. Run: apt-get install chromium")
    if not page.is_file():
        raise RuntimeError(f"{page} is no file. Run: scripts/invoke audit --html {page}")
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder, "shot.png")
        done = subprocess.run(
            [
                chromium,
                "--headless",
                *(["--no-sandbox"] if os.geteuid() == 0 else []),
                "--hide-scrollbars",
                "--force-color-profile=srgb",
                f"--user-data-dir={folder}/profile",
                f"--window-size={WIDTH},{HEIGHT}",
                f"--screenshot={shot}",
                page.resolve().as_uri(),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if not shot.is_file():
            last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
            raise RuntimeError(f"chromium has taken no picture: {last}")
        content = shot.read_bytes()
    if len(content) > LARGEST:
        raise RuntimeError(f"the picture has {len(content)} bytes, more than {LARGEST}.")
    picture.write_bytes(content)


def main(arguments: list[str]) -> int:
    """Take the picture that two arguments name."""
    if len(arguments) != 2:
        sys.stderr.write(__doc__ or "")
        return 2
    try:
        take(Path(arguments[0]), Path(arguments[1]))
    except RuntimeError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
