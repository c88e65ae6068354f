"""The origin of each file that no package ships: a recipe, the build, dpkg or a maintainer script."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath

from dindkit.image import rootfs
from dindkit.image.build_inputs import BuildInputs
from dindkit.review.dpkg_database import Database, PathResolver

RECIPE = "recipe"
ENTRYPOINT = "entrypoint"
SCRIPT = "maintainer script"
DPKG = "dpkg"
BUILD = "build"

#: Files that programs write while maintainer scripts run: pattern of a path -> package.
_KEEPERS = (
    (r"etc/ssl/certs/.*", "ca-certificates"),
    (r"etc/ld\.so\.cache", "libc-bin"),
    (r"etc/(passwd|group|shadow|gshadow)", "base-passwd"),
    (r"etc/sub[ug]id", "passwd"),
    (r"etc/shells|var/lib/shells\.state", "debianutils"),
    (r"etc/pam\.d/common-.*|var/lib/pam/.*", "libpam-runtime"),
    (r"etc/apt/trusted\.gpg\.d/.*", "apt"),
    (r"var/(lib|cache)/debconf/.*", "debconf"),
    (r"var/lib/systemd/deb-systemd-.*|etc/systemd/.*|var/lib/systemd/.*", "init-system-helpers"),
    (r"var/lib/ucf/.*", "ucf"),
    (r"var/lib/apt/.*|var/cache/apt/.*", "apt"),
    (r"etc/alternatives/.*", "dpkg"),
    (r"usr/share/info/dir.*", "install-info"),
    (
        r"(media|mnt|opt|srv|(etc|var|usr/local)/(opt|mail|man|share|games|include|src|etc))(/.*)?",
        "base-files",
    ),
)


#: The folder of the entrypoint's parts.
STARTED = "/lib/dind/"

#: Files that the build writes for every recipe: pattern of a path -> purpose.
_WRITTEN = (
    (r"etc/dpkg/dpkg\.cfg\.d/dindkit-.*", "the recipe's slimming rules, for later installs"),
    (r"usr/sbin/policy-rc\.d", "so that installing a package starts no daemon"),
    (r"var/lib/apt/extended_states", "which packages are there only because others need them"),
)


@dataclass(frozen=True)
class FileOrigin:
    """`kind` is one of the five above; `by` names the file of the recipe, the packages, or the step."""

    kind: str
    by: str


def of_recipes(chain: Sequence[BuildInputs], resolve: PathResolver) -> dict[str, FileOrigin]:
    """Return the origin of every path that the recipes of `chain` put there, later recipes last."""
    return {resolve(path): origin for made in chain for path, origin in _of_recipe(made)}


def _of_recipe(made: BuildInputs) -> Iterator[tuple[str, FileOrigin]]:
    folder = made.recipe.label
    for path in (*made.recipe.folders, *made.recipe.links, *made.engine.links):
        yield path, FileOrigin(RECIPE, f"{folder}/image.toml")
    for path in made.sources:
        yield (
            path,
            FileOrigin(BUILD, "keys/archives.toml, so that apt works in the image under the same keys"),
        )
    for file in rootfs.files(made.recipe):
        name = PurePosixPath(file.name)
        starts = STARTED in f"/{name}" or name.name in made.recipe.config.entrypoint
        kind = ENTRYPOINT if starts else RECIPE
        for part in (*name.parents, name):  # with the folders that hold it
            yield part.as_posix(), FileOrigin(kind, f"{folder}/rootfs/{part.as_posix()}")


def finder(
    database: Database, resolve: PathResolver, recipes: Mapping[str, FileOrigin]
) -> Callable[[str], FileOrigin]:
    """Return a function from a path in the tree to its origin; `recipes` is what `of_recipes` found.

    Everything else was made by a maintainer script: nothing else runs while an image is assembled.
    """

    @cache
    def find(path: str) -> FileOrigin:
        if path in recipes:
            return recipes[path]
        if f"{path}/".startswith("var/lib/dpkg/"):
            return FileOrigin(DPKG, "its database of what is installed")
        for pattern, why in _WRITTEN:
            if re.fullmatch(pattern, path):
                return FileOrigin(BUILD, why)
        return FileOrigin(
            SCRIPT,
            _by_link(path, database, resolve) or _by_name(path, database) or _by_keeper(path, database),
        )

    return find


def _by_link(path: str, database: Database, resolve: PathResolver) -> str:
    """Return the owner of a link's target: alternatives and systemd's wants-links are made for it."""
    target = resolve.target(path)
    return database.owner(target) if target != path else ""


def _by_name(path: str, database: Database) -> str:
    """Return the packages whose scripts name the path."""
    pattern = re.compile(rf"(?:(?<![\w/.-])|(?<=DPKG_ROOT))/{re.escape(path)}(?![\w/-])")
    return ", ".join(sorted(name for name, text in database.scripts.items() if pattern.search(text)))


def _by_keeper(path: str, database: Database) -> str:
    for pattern, package in _KEEPERS:
        if re.fullmatch(pattern, path):
            return package
    parent = str(PurePosixPath(path).parent)
    if parent in (".", "/"):
        return ""
    owners = database.owners.get(parent, ())
    return owners[0] if len(owners) == 1 else ""
