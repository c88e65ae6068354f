"""The recipe of an image, `images/NAME/image.toml`, as data."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from dindkit.errors import RecipeError, did_you_mean
from dindkit.files import read_bounded
from dindkit.formats import capabilities
from dindkit.project import Project

#: The first id of ordinary users (login.defs(5), UID_MIN). useradd(8) gives the highest id in use plus one.
FIRST_USER = 1000
#: Bytes of an image.toml.
LARGEST_RECIPE = 1_000_000
NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


@dataclass(frozen=True)
class Engine:
    """One choice of Docker engine: its packages, and the archive that they come from."""

    packages: tuple[str, ...] = ()
    #: Name of an archive in keys/archives.toml; empty for Debian's own.
    archive: str = ""
    #: dpkg path patterns left out with this engine, beside the recipe's own.
    exclude: tuple[str, ...] = ()
    #: Symbolic links made beside the recipe's own: path -> target.
    links: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Slim:
    """Paths that dpkg leaves out, and of these the ones it keeps: path-exclude, path-include of dpkg(1)."""

    exclude: tuple[str, ...] = ()
    include: tuple[str, ...] = ()


@dataclass(frozen=True)
class User:
    """A user with fixed ids, whose group has its name; `subids` is (first, count) or empty."""

    uid: int = 0
    gid: int = 0
    home: str = "/nonexistent"
    shell: str = "/usr/sbin/nologin"
    subids: tuple[int, ...] = ()
    #: Groups that the user is in beside their own: of the packages, the recipe, or an image below.
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class Health:
    """HEALTHCHECK; times in seconds."""

    test: tuple[str, ...] = ()
    interval: int = 30
    timeout: int = 30
    start_period: int = 0
    start_interval: int = 5
    retries: int = 3


@dataclass(frozen=True)
class Config:
    """What a container is started with (OCI image-spec, config)."""

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    volumes: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    workdir: str = ""
    healthcheck: Health | None = None


@dataclass(frozen=True)
class Recipe:
    """The content of an image.toml."""

    name: str = ""
    title: str = ""
    description: str = ""
    #: Name of the image that this one adds to; empty for none.
    parent: str = ""
    #: Take every Essential package of the archive as well.
    essential: bool = False
    packages: tuple[str, ...] = ()
    engines: Mapping[str, Engine] = field(default_factory=dict)
    slim: Slim = field(default_factory=Slim)
    #: Archive of keys/archives.toml that apt in the image reads -> the keyring in the image that it trusts.
    sources: Mapping[str, str] = field(default_factory=dict)
    #: Group -> gid; added before any maintainer script runs.
    groups: Mapping[str, int] = field(default_factory=dict)
    users: Mapping[str, User] = field(default_factory=dict)
    #: Path -> mode of folders that no package ships.
    folders: Mapping[str, int] = field(default_factory=dict)
    #: Path -> target of symbolic links that no package ships.
    links: Mapping[str, str] = field(default_factory=dict)
    #: Path of one of `folders` -> the one of `users` whose it is, with the group and the recipe's own
    #: files in it; all else is root's.
    owners: Mapping[str, str] = field(default_factory=dict)
    #: Path of a package's program -> file capabilities, as setcap(8) takes them, in the place of set-id bits.
    capabilities: Mapping[str, str] = field(default_factory=dict)
    config: Config = field(default_factory=Config)
    #: Files copied as they are; the folder may be absent.
    rootfs: Path = Path()

    def engine(self, choice: str) -> Engine:
        """Return the engine called `choice`; raises RecipeError where the recipe has none of that name."""
        if not self.engines and not choice:
            return Engine()
        if choice not in self.engines:
            known = ", ".join(sorted(self.engines)) or "none"
            hint = did_you_mean(choice, self.engines)
            raise RecipeError(f"The image {self.name} has no engine {choice!r}.", f"{hint}It has: {known}.")
        return self.engines[choice]


class _Reader:
    """Reads typed values out of parsed TOML, and says which key of which file is wrong."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def wrong(self, key: str, problem: str) -> RecipeError:
        return RecipeError(f"{self.file}: {key} {problem}.", "Correct the recipe.")

    def known(self, table: Any, kind: type, where: str, *leave: str) -> dict[str, Any]:
        """Return `table`, which may only have keys that are fields of `kind`."""
        if not isinstance(table, dict):
            raise self.wrong(where or "the file", "is not a table")
        names = [entry.name for entry in fields(kind) if entry.name not in leave]
        for key in table:
            if key not in names:
                near = difflib.get_close_matches(key, names, 1)
                hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(names)}"
                raise self.wrong(f"{where}{key}", f"is not a key of a recipe{hint}")
        return table

    def text(self, table: Mapping[str, Any], key: str, default: str = "") -> str:
        value = table.get(key, default)
        if not isinstance(value, str):
            raise self.wrong(key, "is not a string")
        return value

    def number(self, table: Mapping[str, Any], key: str, default: int = 0) -> int:
        value = table.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self.wrong(key, "is not a whole number")
        return value

    def words(self, table: Mapping[str, Any], key: str) -> tuple[str, ...]:
        value = table.get(key, [])
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            raise self.wrong(key, "is not a list of strings")
        return tuple(value)

    def names(self, table: Mapping[str, Any], key: str) -> tuple[str, ...]:
        """Return package names (Debian policy §5.6.7), sorted and without repetition; else like `words`."""
        value = self.words(table, key)
        for word in value:
            if not re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", word):
                raise self.wrong(key, f"holds {word!r}, which is no package name")
        if len(set(value)) != len(value):
            raise self.wrong(key, "names a package twice")
        return tuple(sorted(value))

    def table(self, table: Mapping[str, Any], key: str) -> dict[str, Any]:
        value = table.get(key, {})
        if not isinstance(value, dict):
            raise self.wrong(key, "is not a table")
        return value

    def strings(self, table: Mapping[str, Any], key: str) -> dict[str, str]:
        inner = self.table(table, key)
        return {name: self.text(inner, name) for name in inner}

    def links(self, table: Mapping[str, Any]) -> dict[str, str]:
        return {self.path(path): target for path, target in self.strings(table, "links").items()}

    def path(self, path: str) -> str:
        if not path.startswith("/") or ".." in path.split("/"):
            raise self.wrong(repr(path), "is not an absolute path")
        return path.strip("/")

    def account(self, name: str) -> str:
        """Return the name of a user or a group as useradd(8) takes it, which ends no field of passwd(5)."""
        if not re.fullmatch(r"[a-z_][a-z0-9_-]{0,31}", name):
            raise self.wrong(repr(name), "is not a name for a user or a group")
        return name

    def field(self, table: Mapping[str, Any], key: str, default: str) -> str:
        """Return a path that is one field of one line of passwd(5)."""
        value = self.text(table, key, default)
        if not re.fullmatch(r"/[^:\x00-\x1f\x7f]*", value):
            raise self.wrong(key, f"is {value!r}, which is not an absolute path in passwd(5)")
        return value


def _config(read: _Reader, data: Any) -> Config:
    table = read.known(data, Config, "config.")
    health = None
    if "healthcheck" in table:
        inner = read.known(table["healthcheck"], Health, "config.healthcheck.")
        seconds = {
            name: read.number(inner, name, getattr(Health, name))
            for name in ("interval", "timeout", "start_period", "start_interval", "retries")
        }
        health = Health(test=read.words(inner, "test"), **seconds)
    return Config(
        entrypoint=read.words(table, "entrypoint"),
        cmd=read.words(table, "cmd"),
        env=read.strings(table, "env"),
        volumes=read.words(table, "volumes"),
        ports=read.words(table, "ports"),
        labels=read.strings(table, "labels"),
        user=read.text(table, "user"),
        workdir=read.text(table, "workdir"),
        healthcheck=health,
    )


def _engine(read: _Reader, name: str, data: Any) -> Engine:
    table = read.known(data, Engine, f"engines.{name}.")
    return Engine(
        packages=read.names(table, "packages"),
        archive=read.text(table, "archive"),
        exclude=read.words(table, "exclude"),
        links=read.links(table),
    )


def _user(read: _Reader, name: str, data: Any) -> User:
    table = read.known(data, User, f"users.{name}.")
    subids = table.get("subids", [])
    if (
        not isinstance(subids, list)
        or len(subids) not in (0, 2)
        or not all(type(number) is int and 0 < number < 1 << 32 for number in subids)
    ):
        raise read.wrong(f"users.{name}.subids", "is not [first, count]")
    ids = {key: read.number(table, key) for key in ("uid", "gid")}
    for key, number in ids.items():
        # Or the first ordinary user, who takes no other's place.
        if not 0 < number < FIRST_USER and set(ids.values()) != {FIRST_USER}:
            problem = f"is not from 1 to {FIRST_USER - 1}, as a system user's (or both ids are {FIRST_USER})"
            raise read.wrong(f"users.{name}.{key}", problem)
    return User(
        uid=read.number(table, "uid"),
        gid=read.number(table, "gid"),
        home=read.field(table, "home", User.home),
        shell=read.field(table, "shell", User.shell),
        subids=tuple(subids),
        groups=read.names(table, "groups"),
    )


def _mode(read: _Reader, path: str, text: str) -> int:
    if not re.fullmatch(r"[0-7]{3,4}", text):
        raise read.wrong(f"folders.{path!r}", f'is {text!r}, not a mode such as "1777"')
    return int(text, 8)


def _capabilities(read: _Reader, text: str) -> str:
    try:
        capabilities.encode(text)
    except ValueError as error:
        raise read.wrong("capabilities", f"holds {text!r}: {error}") from error
    return text


def load(project: Project, name: str) -> Recipe:
    """Read the recipe of the image `name`.

    Raises RecipeError, which names file and key, where it is missing or wrong.
    """
    folder = project.images / name
    file = folder / "image.toml"
    if not NAME.fullmatch(name) or not file.is_file():
        known = names(project)
        hint = did_you_mean(name, known)
        raise RecipeError(
            f"There is no recipe for an image {name!r}.", f"{hint}There are: {', '.join(known)}."
        )
    read = _Reader(file.relative_to(project.root))
    try:
        data = tomllib.loads(read_bounded(file, LARGEST_RECIPE).decode())
    except (ValueError, RecursionError) as error:  # or too long a number, or too deep a list
        raise read.wrong("the file", f"is not TOML ({error})") from error
    table = read.known(data, Recipe, "", "name", "rootfs")
    slim = read.known(table.get("slim", {}), Slim, "slim.")
    groups = read.table(table, "groups")
    folders = read.strings(table, "folders")
    recipe = Recipe(
        name=name,
        title=read.text(table, "title", name),
        description=read.text(table, "description"),
        parent=read.text(table, "parent"),
        essential=bool(table.get("essential", False)),
        packages=read.names(table, "packages"),
        engines={key: _engine(read, key, value) for key, value in read.table(table, "engines").items()},
        slim=Slim(read.words(slim, "exclude"), read.words(slim, "include")),
        sources=read.strings(table, "sources"),
        groups={read.account(key): read.number(groups, key) for key in groups},
        users={
            read.account(key): _user(read, key, value) for key, value in read.table(table, "users").items()
        },
        folders={read.path(path): _mode(read, path, mode) for path, mode in folders.items()},
        links=read.links(table),
        owners={read.path(path): user for path, user in read.strings(table, "owners").items()},
        capabilities={
            read.path(path): _capabilities(read, text)
            for path, text in read.strings(table, "capabilities").items()
        },
        config=_config(read, table.get("config", {})),
        rootfs=folder / "rootfs",
    )
    _whole(read, project, recipe)
    return recipe


def _whole(read: _Reader, project: Project, recipe: Recipe) -> None:
    """Check what involves more than one key: the parent, and the files that the configuration names."""
    if recipe.parent and not _is_file(project.images / recipe.parent / "image.toml"):
        raise read.wrong("parent", f"names {recipe.parent}, for which there is no recipe")
    if not recipe.parent and not recipe.essential:
        raise read.wrong("the file", "has neither a parent nor `essential = true`, so it could run nothing")
    if not recipe.parent and (recipe.groups or recipe.users):
        raise read.wrong("groups and users", "need a parent, which brings the files that they are written to")
    for path, user in recipe.owners.items():
        if path not in recipe.folders or user not in recipe.users:
            raise read.wrong("owners", f"gives {path!r} to {user!r}, which are not both in folders and users")
    health = recipe.config.healthcheck.test[1:2] if recipe.config.healthcheck else ()
    for word in (*recipe.config.entrypoint[:1], *health):
        if word.startswith("/") or not word:
            continue
        roots = [recipe.rootfs, *([project.images / recipe.parent / "rootfs"] if recipe.parent else [])]
        folders = ("usr/local/bin", "usr/local/sbin", "usr/bin")
        files = [root / folder / word for root in roots for folder in folders]
        if not any(map(_is_file, files)):
            raise read.wrong("config", f"runs {word}, but {files[0].relative_to(project.root)} is missing")


def _is_file(path: Path) -> bool:
    """Tell whether a file is there; Path.is_file() raises OSError for a name that no file system takes."""
    return os.path.isfile(path)  # noqa: PTH113


def names(project: Project) -> list[str]:
    """Return the names of all images with a recipe, sorted."""
    return sorted(path.parent.name for path in project.images.glob("*/image.toml"))


def with_parents(project: Project, name: str) -> list[Recipe]:
    """Return the recipes from the first ancestor to the image `name` itself. Raises RecipeError."""
    recipes = [load(project, name)]
    while recipes[0].parent:
        if recipes[0].parent in {recipe.name for recipe in recipes}:
            raise RecipeError(f"The recipes {name} and {recipes[0].parent} are each other's parent.")
        recipes.insert(0, load(project, recipes[0].parent))
    return recipes
