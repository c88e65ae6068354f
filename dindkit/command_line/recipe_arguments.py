"""The recipe that a command line is about: as an argument, and in the commands that errors advise."""

from __future__ import annotations

import inspect
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from invoke.parser.context import ParserContext

from dindkit import defaults
from dindkit.progress import Progress

#: The option that a path after a verb is the value of: `build ./my-runner` is `build --image ./my-runner`.
RECIPE_OPTIONS = {
    "audit": "image",
    "build": "image",
    "lock": "image",
    "push": "image",
    "sbom": "image",
    "shell": "recipe",
    "smoke": "recipe",
    "verify": "recipe",
}
#: Options that choose among the images of a recipe.
CHOICES = ("engine", "suite", "arch")


#: Every verb that was declared, with the names of its parameters.
PARAMETERS: dict[str, frozenset[str]] = {}


def chosen(
    verb: str, options: Mapping[str, inspect.Parameter], given: Mapping[str, Any]
) -> dict[str, dict[str, str]]:
    """Return for each verb the words that make it about the image that `verb` was called for."""
    words = {
        name: f"--{name} {shlex.quote(str(given[name]))}"
        for name in CHOICES
        if given.get(name) and name in options and given[name] != options[name].default
    }
    recipe = given.get(RECIPE_OPTIONS.get(verb, ""))
    found = {}
    for other, parameters in PARAMETERS.items():
        found[other] = {f"--{name}": text for name, text in words.items() if name in parameters}
        option = RECIPE_OPTIONS.get(other)
        if option and recipe and recipe != defaults.IMAGE:
            is_path = "/" in recipe or recipe in (".", "..")
            found[other][f"--{option}"] = shlex.join([recipe] if is_path else [f"--{option}", recipe])
    return found


def name_recipe_here(verb: str, given: Mapping[str, Any]) -> None:
    """Say so where a recipe is here and `verb` takes another, as people expect the one that is here."""
    option = RECIPE_OPTIONS.get(verb)
    other = option == "recipe" and given.get("image")  # of smoke, shell and verify: an image that is there
    if option and given.get(option) == defaults.IMAGE and not other and Path("image.toml").is_file():
        Progress().note(f"This is for {defaults.IMAGE}. For the recipe in this folder: invoke {verb} .")


def with_recipes(words: Sequence[str], verbs: Mapping[str, ParserContext]) -> list[str]:
    """Return the command line `words` with each path of a recipe as the value of its verb's option."""
    found: list[str] = []
    verb, is_value, wanted = "", False, 0
    for word in words:
        said = word
        if is_value:
            is_value = False
        elif word in verbs and not wanted:
            verb, wanted = word, len(verbs[word].positional_args)
        elif word.startswith("-"):
            option = verbs[verb].flags.get(word) if verb else None
            is_value = option is not None and option.takes_value
        elif verb in RECIPE_OPTIONS and _is_folder(word, certainly=bool(verbs[verb].positional_args)):
            said = f"--{RECIPE_OPTIONS[verb]}={word}"
        else:  # a verb's own word, which may be another verb's name: `bench build`
            wanted = max(wanted - 1, 0)
        found.append(said)
    return found


def _is_folder(word: str, *, certainly: bool) -> bool:
    """Tell whether `word` is a path; `certainly` where it may also be a reference, `team/image:tag`."""
    if word in (".", "..") or word.startswith(("./", "../", "/")) or word.endswith("/"):
        return True
    return ("/" in word and not certainly) or os.path.isfile(os.path.join(word, "image.toml"))  # noqa: PTH113, PTH118
