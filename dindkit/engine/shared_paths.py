"""Check that an engine sees a path of this machine: `docker run -v` names paths of the engine's machine."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from docker.errors import APIError
from docker.types import Mount

from dindkit import owner
from dindkit.engine import run_script
from dindkit.engine.discover import EMBEDDED, Engine
from dindkit.errors import EngineError

#: Prints a digest of a file, or the names in a folder.
LOOK = 'if [ -d /seen ]; then ls -A /seen | LC_ALL=C sort; else sha256sum </seen | cut -d" " -f1; fi'


def check(engine: Engine, path: Path, image: str) -> None:
    """Compare `path` here with what a container finds mounted from there; `engine` must have `image`.

    Where a folder is writable, a file with a unique name is put into it for the check. Raises EngineError
    where the engine does not see the path or its content; its next step says what to share.
    """
    path = path.absolute()
    if not path.exists():
        raise EngineError(f"{path} does not exist on this machine.", "Name a path that does.")
    with _marked(path):
        seen = _look(engine, path, image)
        if seen is None:
            raise EngineError(f"The engine at {engine.host} does not see {path}.", _advice(engine, path))
        if seen != _here(path):
            raise EngineError(
                f"The engine at {engine.host} has a {path} too, but with another content.",
                _advice(engine, path),
            )


@contextlib.contextmanager
def _marked(path: Path) -> Iterator[None]:
    """Keep a file with a unique name in the folder `path`: otherwise two empty folders look the same."""
    marker = path / owner.name(owner.HIDDEN)
    if path.is_dir():
        owner.sweep(path, owner.HIDDEN)
        with contextlib.suppress(OSError):
            marker.touch()
    try:
        yield
    finally:
        if path.is_dir():
            marker.unlink(missing_ok=True)


def _here(path: Path) -> list[str]:
    if path.is_dir():
        return sorted((entry.name for entry in path.iterdir()), key=os.fsencode)
    return [hashlib.sha256(path.read_bytes()).hexdigest()]


def _look(engine: Engine, path: Path, image: str) -> list[str] | None:
    try:
        mount = Mount("/seen", str(path), type="bind", read_only=True)
        return run_script.run(engine, image, LOOK, mounts=[mount], network_disabled=True).splitlines()
    except APIError as error:
        if "does not exist" in str(error.explanation):
            return None
        raise EngineError(f"The engine cannot mount {path}: {error.explanation}.") from error


def _advice(engine: Engine, path: Path) -> str:
    if engine.found_by.startswith(EMBEDDED):
        return "The embedded engine sees the top-level folders that are not the system's: use one of those."
    return (
        f"If the daemon runs in a container, start both it and this client with -v {path}:{path} (or a volume"
        " at the same path in both); on a desktop, add the folder to what its virtual machine shares."
    )
