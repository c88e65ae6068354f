"""The recipe of an image, its `image.toml`, as data. docs/recipes.md describes every key."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dindkit.errors import RecipeError, did_you_mean
from dindkit.files import read_bounded
from dindkit.formats import capabilities
from dindkit.image.recipe_folders import IMAGE_NAME, RECIPE_FILE, displayed, find, is_file, names
from dindkit.image.recipe_reader import Reader, quoted
from dindkit.project import Project

#: The first id of ordinary users (login.defs(5), UID_MIN). useradd(8) gives the highest id in use plus one.
FIRST_USER = 1000
#: Bytes of an image.toml.
LARGEST_RECIPE = 1_000_000
#: Characters of an image's name: that of a file in the state folder begins with it.
LONGEST_NAME = 128


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

    #: That of the folder, unless a recipe outside `images/` says another.
    name: str = ""
    title: str = ""
    description: str = ""
    #: Name of the image that this one adds to; empty for none. image.toml may give a path instead.
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
    folder: Path = Path()
    #: A folder that is not in `images/` of the project.
    outside: bool = False

    @property
    def rootfs(self) -> Path:
        """The folder with the files that are copied as they are; it may be absent."""
        return self.folder / "rootfs"

    @property
    def reference(self) -> str:
        """What commands call it: a name, or a path as one would type it here."""
        return displayed(self.folder) if self.outside else self.name

    @property
    def label(self) -> str:
        """What a report calls it: the last parts of its path, the same wherever it lies."""
        return self.folder.name if self.outside else f"images/{self.name}"

    def command(self, words: str) -> str:
        """Return the command `invoke WORDS` for this recipe; a path follows the verb."""
        verb, *options = words.split()
        path = [shlex.quote(self.reference)] if self.outside else []
        return " ".join(["invoke", verb, *path, *options])

    def engine(self, choice: str) -> Engine:
        """Return the engine called `choice`; raises RecipeError where the recipe has none of that name."""
        if not self.engines and not choice:
            return Engine()
        if choice not in self.engines:
            known = ", ".join(sorted(self.engines)) or "none"
            hint = did_you_mean(choice, self.engines)
            raise RecipeError(f"The image {self.name} has no engine {choice!r}.", f"{hint}It has: {known}.")
        return self.engines[choice]


def _config(read: Reader, data: Any) -> Config:
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


def _engine(read: Reader, name: str, data: Any) -> Engine:
    table = read.known(data, Engine, f"engines.{quoted(name)}.")
    return Engine(
        packages=read.names(table, "packages"),
        archive=read.text(table, "archive"),
        exclude=read.words(table, "exclude"),
        links=read.links(table),
    )


def _user(read: Reader, name: str, data: Any) -> User:
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


def _mode(read: Reader, path: str, text: str) -> int:
    if not re.fullmatch(r"[0-7]{3,4}", text):
        raise read.wrong(f"folders.{path!r}", f'is {text!r}, not a mode such as "1777"')
    return int(text, 8)


def _capabilities(read: Reader, text: str) -> str:
    try:
        capabilities.encode(text)
    except ValueError as error:
        raise read.wrong("capabilities", f"holds {text!r}: {error}") from error
    return text


def load(project: Project, reference: str, start: Path | None = None) -> Recipe:
    """Read the recipe `reference`: a name of `images/`, or a path, which begins at `start` (default: here).

    Raises RecipeError, which names file and key, where it is missing or wrong.
    """
    place = find(project, reference, start)
    folder = place.folder
    file = folder / RECIPE_FILE
    read = Reader(Path(displayed(folder), RECIPE_FILE) if place.outside else file.relative_to(project.root))
    try:
        data = tomllib.loads(read_bounded(file, LARGEST_RECIPE).decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise read.wrong("the file", f"is not UTF-8, at byte {error.start}") from error
    except (ValueError, RecursionError) as error:  # or too long a number, or too deep a list
        raise read.wrong("the file", f"is not TOML ({error})") from error
    table = read.known(data, Recipe, "", "folder", "outside", *(() if place.outside else ("name",)))
    name = _name(read, project, table, folder) if place.outside else folder.name
    slim = read.known(table.get("slim", {}), Slim, "slim.")
    groups = read.table(table, "groups")
    folders = read.strings(table, "folders")
    recipe = Recipe(
        name=name,
        title=read.text(table, "title", name),
        description=read.text(table, "description"),
        parent=read.text(table, "parent"),
        essential=read.flag(table, "essential"),
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
        folder=folder,
        outside=place.outside,
    )
    _whole(read, project, recipe)
    return recipe


def _name(read: Reader, project: Project, table: Mapping[str, Any], folder: Path) -> str:
    """Return the name of an image outside `images/`, which no image there has."""
    name = read.text(table, "name", folder.name)
    given = "name" in table
    if not IMAGE_NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        problem = f"{name!r}{'' if given else ', the name of the folder,'} cannot be the name of an image"
        raise RecipeError(
            f"{read.file}: {problem}.",
            'Small letters and digits can, with -, _ or . between: name = "my-image"',
        )
    if name in names(project):
        raise RecipeError(
            f"{read.file}: dindkit has an image called {name} itself, and engines could not tell them apart.",
            f'Give it another name: name = "my-{name}"',
        )
    return name


def _whole(read: Reader, project: Project, recipe: Recipe) -> None:
    """Check what involves more than one key: the parent, and the files that the configuration names."""
    for path, user in recipe.owners.items():
        if path not in recipe.folders or user not in recipe.users:
            raise read.wrong("owners", f"gives {path!r} to {user!r}, which are not both in folders and users")
    if recipe.parent:
        try:
            find(project, recipe.parent, recipe.folder)
        except RecipeError as error:
            raise RecipeError(
                f"{read.file}: parent names {recipe.parent}, for which there is no recipe.", error.next_step
            ) from None
    if not recipe.parent and not recipe.essential:
        raise read.wrong("the file", "has neither a parent nor `essential = true`, so it could run nothing")
    if not recipe.parent and (recipe.groups or recipe.users):
        raise read.wrong("groups and users", "need a parent, which brings the files that they are written to")
    if not (recipe.parent and recipe.outside):  # there what it runs may be of any image below it
        _runnable(read, project, recipe)


def _runnable(read: Reader, project: Project, recipe: Recipe) -> None:
    """Check that the programs are there that the configuration names without a folder."""
    health = recipe.config.healthcheck.test[1:2] if recipe.config.healthcheck else ()
    for word in (*recipe.config.entrypoint[:1], *health):
        if word.startswith("/") or not word:
            continue
        roots = [recipe.rootfs, *([project.images / recipe.parent / "rootfs"] if recipe.parent else [])]
        folders = ("usr/local/bin", "usr/local/sbin", "usr/bin")
        files = [root / folder / word for root in roots for folder in folders]
        if not any(map(is_file, files)):
            raise read.wrong("config", f"runs {word}, but {files[0].relative_to(recipe.folder)} is missing")


def with_parents(project: Project, reference: str) -> list[Recipe]:
    """Return the recipes from the first ancestor to the image `reference` itself, as `load` takes it.

    Each has its parent's name in `parent`, also where image.toml gives a path. Raises RecipeError.
    """
    recipes = [load(project, reference)]
    while recipes[0].parent:
        child = recipes[0]
        above = load(project, child.parent, child.folder)
        if above.folder in {one.folder for one in recipes}:
            own = above.folder == child.folder
            raise RecipeError(
                f"The recipe {above.name} is its own parent."
                if own
                else f"The recipes {recipes[-1].name} and {above.name} are each other's parent.",
                f"Correct parent in {displayed(child.folder)}/{RECIPE_FILE}.",
            )
        if above.name in {one.name for one in recipes}:
            raise RecipeError(
                f"{displayed(child.folder)} stands over another image called {above.name}.",
                f'Give one of them another name: name = "my-{above.name}" in its image.toml.',
            )
        recipes[0] = replace(child, parent=above.name)
        recipes.insert(0, above)
    return recipes
