"""Files that others see whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from dindkit.errors import DindkitError


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Yield a new file that takes the name `path` once the block has ended well, and is gone otherwise.

    Its data is on the disk by then, so that a full one is an error that leaves what was there before. Raises
    OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        temporary = Path(file.name)
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), 0o666 & ~_umask())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def check_target(path: Path) -> None:
    """Raise DindkitError where no file can take the name `path`: what takes long is not begun then."""
    if path.is_dir():
        raise DindkitError(f"{path} is a folder.", f"Name a file: {path / 'NAME'}")
    for parent in path.parents:
        if parent.exists() and not parent.is_dir():
            raise DindkitError(f"{parent} is no folder, so nothing can be written to {path}.")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
