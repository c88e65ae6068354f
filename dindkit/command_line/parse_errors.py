"""Sentences for what Invoke's parser does not understand, or takes without a word."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from invoke.exceptions import ParseError
from invoke.parser.context import ParserContext

from dindkit import json_document
from dindkit.command_line.failures import end
from dindkit.command_line.standard_files import write_document
from dindkit.errors import did_you_mean
from dindkit.json_document import Failure
from dindkit.printing import as_called


def with_sentence(parse: Callable[[], None], verbs: dict[str, Any], words: Sequence[str] = ()) -> None:
    """Call `parse`; raise Exit with a sentence where Invoke's parser fails.

    Where `--json` is among `words`, the command line, a document with the error is printed, too.
    """
    verb = ""
    try:
        parse()
        return
    except ParseError as error:
        said = _explained(error, verbs)
        verb = str(error.context.name or "") if error.context is not None else ""
    except ValueError as error:  # of int()
        said = f"A number is wanted: {error}."
    failure = Failure(json_document.USAGE, as_called(said))
    if "--json" in words:
        with_json = verb in verbs and "--json" in verbs[verb].flags
        write_document(verb if with_json else json_document.NO_VERB, {}, failure, ())
    raise end(str(failure))


def _explained(error: ParseError, verbs: dict[str, Any]) -> str:
    said = str(error)
    verb = error.context.name if error.context is not None else None
    more = f"See: invoke {verb} --help" if verb else "See: invoke --list"
    if found := re.fullmatch(r"No idea what (.+) is!", said):
        word = str(ast.literal_eval(found[1]))
        if not word.startswith("-"):
            if word == "help":
                return "There is no verb 'help'. See: invoke --list, or a verb and --help"
            hint = did_you_mean(word, verbs)
            if verb and not hint:
                return f"{verb} takes no argument {word!r}, only options. {more}"
            return f"There is no verb {word!r}. {hint}See: invoke --list"
        if verb and error.context is not None:
            return f"{verb} has no option {word}. {did_you_mean(word, error.context.flags)}{more}"
        return f"There is no option {word} before a verb; a verb's own follow it. {more}"
    if found := re.fullmatch(r"'(.+)' did not receive required positional arguments: (.+)", said):
        return f"{found[1]} needs {found[2].replace(chr(39), '').upper()}. {more}"
    if found := re.search(r"<Argument: ([\w-]+).*(needed value|doesn't take any value)", said):
        wants = "needs a value" if found[2] == "needed value" else "takes no value"
        return f"--{found[1]} {wants}. {more}"
    return f"{said} {more}"


def refuse_empty_values(tasks: Sequence[ParserContext]) -> None:
    """Raise ParseError where an option was given nothing, as by a variable of a shell that is not set.

    Where that means the default, another thing than was asked for would be done without a word: `verify
    --image ""` would verify the lock.
    """
    for context in tasks:
        for argument in context.args.values():
            if argument.kind is str and argument.default == "" and argument.got_value and not argument.value:
                raise ParseError(f"--{argument.name.replace('_', '-')} is empty.", context)


def require_last_value(words: Sequence[str], verbs: Mapping[str, ParserContext]) -> None:
    """Raise ParseError where an option that may be repeated ends the line: Invoke ignores it then."""
    context = next((verbs[word] for word in reversed(words) if word in verbs), None)
    option = context.flags.get(words[-1]) if context and words else None
    if option is not None and option.kind is list:
        raise ParseError(f"{option} needed value", context)
