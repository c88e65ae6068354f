"""`invoke lock --seal`: build from each lock, and write the resulting image id and diff_ids into it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dindkit.image import build, build_options, locking
from dindkit.image.build_options import BuildOptions
from dindkit.image.expected_ids import ids_of
from dindkit.image.locking import LockChange
from dindkit.packages import lock as locks
from dindkit.progress import Progress
from dindkit.project import Project


def seal(project: Project, options: BuildOptions, progress: Progress) -> list[LockChange]:
    """Build the image and all over the same base, write their ids into their locks, and return what changed.

    The locked packages do not change, so a file that is gone is an error here. Raises DindkitError; the locks
    of that image have not changed then.
    """
    chosen = build_options.resolve(project, options)[-1]
    locking.check_writable(project, chosen.recipe)
    choice = chosen.choice
    sealed: dict[Path, LockChange] = {}
    for chain in locking.chains_over_same_base(project, options, choice):
        for recipe, path in zip(chain.recipes, chain.paths, strict=True):
            if path in sealed:
                continue
            image = chain.recipes[-1].reference
            engine = chain.choice or "auto"
            one = replace(options, image=image, ancestor=recipe.name, engine=engine, frozen=True)
            built = build.build(project, one, progress, check_ids=False)
            lock = locks.read(path)
            new = replace(lock, expected=ids_of(built))
            if new != lock:
                locks.write(new, path)
            sealed[path] = LockChange(path, new, written=new != lock)
    return list(sealed.values())
