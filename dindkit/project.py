"""Paths: recipes and keys, the state folder (DINDKIT_STATE) and the download cache (DINDKIT_CACHE)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from dindkit.errors import DindkitError
from dindkit.files import open_to_others
from dindkit.progress import Progress


def _folder(variable: str, xdg: str, default: str) -> Path:
    given = os.environ.get(variable)
    if given:
        return Path(given).absolute()
    try:
        return Path(os.environ.get(xdg) or Path.home() / default).absolute() / "dindkit"
    except RuntimeError:  # neither HOME nor a row of passwd(5)
        raise DindkitError(
            f"User {os.getuid()} has no home folder.", "Set HOME, or DINDKIT_STATE and DINDKIT_CACHE."
        ) from None


#: What setup.py puts into a wheel: images/, kernels/, keys/, scripts/ and tasks.py. A checkout has no such
#: folder.
INSTALLED = Path(__file__).with_name("share")


@dataclass(frozen=True)
class Project:
    """A checkout (`root`), with the state and cache folders that belong to the user.

    Where this package is installed from a wheel, `root` is a folder in it of the same shape. Tests point
    `root` at another one.
    """

    root: Path
    #: What the commands make: built images, the embedded engine's data. `DINDKIT_STATE` moves it.
    state: Path
    #: What can be downloaded again. `DINDKIT_CACHE` moves it.
    cache: Path

    @classmethod
    def here(cls, root: Path | None = None) -> Project:
        """Return the project at `root` (default: this checkout) with the user's own folders."""
        return cls(
            root=(root or (INSTALLED if INSTALLED.is_dir() else INSTALLED.parents[1])).absolute(),
            state=_folder("DINDKIT_STATE", "XDG_STATE_HOME", ".local/state"),
            cache=_folder("DINDKIT_CACHE", "XDG_CACHE_HOME", ".cache"),
        )

    @property
    def installed(self) -> bool:
        """Whether `root` is part of an installed package, and so not for writing."""
        return self.root == INSTALLED.absolute()

    @property
    def keys(self) -> Path:
        """The folder of vendored keys and `archives.toml`."""
        return self.root / "keys"

    @property
    def images(self) -> Path:
        """The folder with one folder per image."""
        return self.root / "images"

    @property
    def kernels(self) -> Path:
        """The folder with the locks of the kernels that virtual machines boot."""
        return self.root / "kernels"


def check_folders(project: Project, progress: Progress) -> None:
    """Make the state and the cache folder where they are missing, and check who else may write there.

    The content of the state folder is run: built images, the engine's tree. Raises DindkitError where others
    may change it. Files of the cache are hashed before each use, so a warning is enough there.
    """
    for folder in (project.state, project.cache):
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        found = open_to_others(folder)
        if found is None:
            continue
        place, who = found
        if folder == project.state and place == folder.resolve():
            raise DindkitError(
                f"Others may swap what is built in {folder}: it {who}.",
                f"Run: chown {os.geteuid()} {folder} && chmod go-w {folder}; or set DINDKIT_STATE.",
            )
        progress.warn(f"others may swap what is in {folder}: {place} {who}")
