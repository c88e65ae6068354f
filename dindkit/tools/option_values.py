"""The values that an option of a verb may have, for completion in a shell."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from dindkit.project import Project

#: Verbs whose `--image` is a name in an engine or an archive, and no recipe.
OF_AN_ENGINE = ("smoke", "verify", "shell", "preload")


def find(verb: str, option: str) -> Iterable[str]:
    """Return the known values of an option, or of an argument, of `verb`; none where it may be anything."""
    if option in ("image", "nested-image") and (verb in OF_AN_ENGINE or option != "image"):
        return _references()
    kind = _BY_VERB.get((verb, option)) or _BY_OPTION.get(option)
    return kind() if kind else ()


def _recipes() -> Iterable[str]:
    from dindkit.image import recipe_folders

    return recipe_folders.names(Project.here())


def _references() -> Iterable[str]:
    """Return the names of the images of our recipes, as engines know them."""
    from dindkit.image.committed_locks import committed

    return {f"dindkit/{lock.image}:{lock.suite}" for _, lock in committed(Project.here())}


def _suites() -> Iterable[str]:
    from dindkit.packages import keys

    archives = keys.load(Project.here().keys).archives.values()
    return {suite for archive in archives for suite in archive.suites}


def _engines() -> Iterable[str]:
    from dindkit.image import recipe, recipe_folders

    project = Project.here()
    return {
        "auto",
        *(one for name in recipe_folders.names(project) for one in recipe.load(project, name).engines),
    }


def _architectures() -> Iterable[str]:
    from dindkit.image.build_options import DEBIAN

    return DEBIAN


def _topologies() -> Iterable[str]:
    from dindkit.smoke.topologies import TABLE

    return (*TABLE, "all")


_BY_OPTION: Mapping[str, Callable[[], Iterable[str]]] = {
    "image": _recipes,
    "recipe": _recipes,
    "suite": _suites,
    "engine": _engines,
    "arch": _architectures,
    "topology": _topologies,
    "compression": lambda: ("gzip", "zstd"),
}
_BY_VERB: Mapping[tuple[str, str], Callable[[], Iterable[str]]] = {
    ("bench", "what"): lambda: ("boot", "build"),
}
