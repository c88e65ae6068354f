"""Read typed values out of an image.toml, and say which key of which file is wrong."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from dindkit.errors import RecipeError

#: Debian policy §5.6.7.
PACKAGE_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")


class Table(dict[str, Any]):
    """A table of a recipe, which knows what its keys are called: `config.env` in an error."""

    def __init__(self, content: Mapping[str, Any], where: str = "") -> None:
        super().__init__(content)
        self.where = where


def quoted(key: str) -> str:
    """Return `key` as TOML has it: in quotation marks where it is no bare one."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else f'"{key}"'


def _full(table: Mapping[str, Any], key: str) -> str:
    """Return the name of `key` from the top of the file."""
    return f"{table.where if isinstance(table, Table) else ''}{quoted(key)}"


class Reader:
    """Reads typed values out of parsed TOML. Every method raises RecipeError, with file and key."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def wrong(self, key: str, problem: str) -> RecipeError:
        """Return the error that `key` has this problem."""
        return RecipeError(f"{self.file}: {key} {problem}.", "Correct the recipe.")

    def known(self, table: Any, kind: type, where: str, *leave: str) -> Table:
        """Return `table`, which may only have keys that are fields of `kind`."""
        if not isinstance(table, dict):
            raise self.wrong(where.rstrip(".") or "the file", "is not a table")
        names = [entry.name for entry in fields(kind) if entry.name not in leave]
        for key in table:
            if key not in names:
                near = difflib.get_close_matches(key, names, 1)
                hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(names)}"
                raise self.wrong(f"{where}{key}", f"is not a key of a recipe ({hint})")
        return Table(table, where)

    def text(self, table: Mapping[str, Any], key: str, default: str = "") -> str:
        """Return a string."""
        value = table.get(key, default)
        if not isinstance(value, str):
            raise self.wrong(_full(table, key), "is not a string")
        return value

    def number(self, table: Mapping[str, Any], key: str, default: int = 0) -> int:
        """Return a whole number, from 0 on."""
        value = table.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self.wrong(_full(table, key), "is not a whole number")
        return value

    def flag(self, table: Mapping[str, Any], key: str) -> bool:
        """Return true or false."""
        value = table.get(key, False)
        if not isinstance(value, bool):
            raise self.wrong(_full(table, key), "is neither true nor false")
        return value

    def words(self, table: Mapping[str, Any], key: str) -> tuple[str, ...]:
        """Return a list of strings."""
        value = table.get(key, [])
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            raise self.wrong(_full(table, key), "is not a list of strings")
        return tuple(value)

    def names(self, table: Mapping[str, Any], key: str) -> tuple[str, ...]:
        """Return package names (Debian policy §5.6.7), sorted and without repetition; else like `words`."""
        value = self.words(table, key)
        for word in value:
            if not PACKAGE_NAME.fullmatch(word):
                raise self.wrong(_full(table, key), f"holds {word!r}, which is no package name")
        if len(set(value)) != len(value):
            raise self.wrong(_full(table, key), "names a package twice")
        return tuple(sorted(value))

    def table(self, table: Mapping[str, Any], key: str) -> Table:
        """Return a table."""
        value = table.get(key, {})
        if not isinstance(value, dict):
            raise self.wrong(_full(table, key), "is not a table")
        return Table(value, f"{_full(table, key)}.")

    def strings(self, table: Mapping[str, Any], key: str) -> dict[str, str]:
        """Return a table of strings."""
        inner = self.table(table, key)
        return {name: self.text(inner, name) for name in inner}

    def links(self, table: Mapping[str, Any]) -> dict[str, str]:
        """Return the links of `table`: path -> target."""
        return {self.path(path): target for path, target in self.strings(table, "links").items()}

    def path(self, path: str) -> str:
        """Return an absolute path, without its first slash."""
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
            raise self.wrong(_full(table, key), f"is {value!r}, which is not an absolute path in passwd(5)")
        return value
