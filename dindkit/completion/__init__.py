"""What a shell offers when Tab is pressed: verbs, their options, and the values of options.

The scripts beside this file are sourced by shells. They call the program with `--complete -- WORDS…`, all
words up to the cursor, the last one maybe empty, and offer those lines of its answer that begin with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dindkit.errors import DindkitError, did_you_mean

if TYPE_CHECKING:
    from invoke.parser.context import ParserContext

SCRIPTS = {path.stem: path for path in Path(__file__).parent.glob("*.completion")}

#: Programs that run the verbs. Shells complete `scripts/invoke` by its last part.
PROGRAMS = ("invoke", "inv", "dindkit")


def no_values(verb: str, option: str) -> Iterable[str]:
    """Return no values for an option of a verb; tasks.py puts another function in this one's place."""
    del verb, option
    return ()


#: Called with a verb and the name of one of its options or arguments, without dashes.
find_values: Callable[[str, str], Iterable[str]] = no_values


def script(shell: str) -> str:
    """Return the script for a shell to source. Raises DindkitError where there is none for it."""
    if shell not in SCRIPTS:
        known = ", ".join(sorted(SCRIPTS))
        raise DindkitError(
            f"There is no completion for {shell!r}.", f"{did_you_mean(shell, SCRIPTS)}There is: {known}."
        )
    return SCRIPTS[shell].read_text("utf-8").replace("@PROGRAMS@", " ".join(PROGRAMS))


def candidates(words: list[str], verbs: Mapping[str, ParserContext], core: ParserContext) -> list[str]:
    """Return what the last of `words` may become, an empty list where it may be anything.

    `words` begin after the program's name; `core` has the options that stand before all verbs.
    """
    *before, current = words
    name, context, waiting, given = "", core, "", 0
    for word in before:
        if waiting:
            waiting = ""
        elif word in context.flags:
            waiting = word if context.flags[word].takes_value else ""
        elif word in verbs:
            name, context, given = word, verbs[word], 0
        elif not word.startswith("-"):
            given += 1
    if waiting:
        return _values(name, context, waiting)
    option, equals, _ = current.partition("=")
    if equals and option in context.flags:
        return [f"{option}={value}" for value in _values(name, context, option)]
    if current.startswith("-"):
        return sorted(flag for flag in context.flags if flag.startswith("--"))
    if name and given < len(context.positional_args):
        return sorted(find_values(name, str(context.positional_args[given].name)))
    return sorted(verbs)


def _values(verb: str, context: ParserContext, option: str) -> list[str]:
    if context.flags[option].name == "help":
        return []
    return sorted(find_values(verb, option.removeprefix("--")))
