"""Put the recipes, keys, scripts and verbs of the checkout into a wheel or an sdist, as dindkit/share.

Everything else is in pyproject.toml. A wheel holds neither symbolic links nor reliable modes, so those of
each rootfs are written down beside it, for dindkit/image/rootfs.py to read.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

ROOT = Path(__file__).parent
SHARED = ("images", "kernels", "keys", "scripts/hello.sh", "tasks.py")
PACKED = "rootfs.json"


def copy_shared(target: Path) -> None:
    """Copy what is SHARED below `target`, in place of what is there."""
    for name in SHARED:
        source, copy = ROOT / name, target / name
        if source.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy)
        else:
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(source, copy, symlinks=True)
    for recipe in (target / "images").glob("*/image.toml"):
        pack(recipe.parent)


def pack(folder: Path) -> None:
    """Write down the links and the executable files of a recipe's rootfs, and delete the links."""
    rootfs, file = folder / "rootfs", folder / PACKED
    packed = json.loads(file.read_text()) if file.exists() else {"links": {}, "executable": []}
    for path in sorted(rootfs.rglob("*")):
        name = path.relative_to(rootfs).as_posix()
        if path.is_symlink():
            packed["links"][name] = os.readlink(path)  # noqa: PTH115
            path.unlink()
        elif path.is_file() and path.stat().st_mode & 0o100 and name not in packed["executable"]:
            packed["executable"].append(name)
    file.write_text(json.dumps(packed, indent=1, sort_keys=True))


class BuildWithShare(build_py):
    """Builds the package, and what it shares beside its modules."""

    def run(self) -> None:
        """Copy the modules, then what is SHARED, unless the package stays in the checkout."""
        super().run()
        if not self.editable_mode:
            copy_shared(Path(self.build_lib) / "dindkit" / "share")


class SdistWithShare(sdist):
    """Makes an sdist, from which the same wheel can be built."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        """Copy the files of the package, then what is SHARED."""
        super().make_release_tree(base_dir, files)
        copy_shared(Path(base_dir))


setup(cmdclass={"build_py": BuildWithShare, "sdist": SdistWithShare})
