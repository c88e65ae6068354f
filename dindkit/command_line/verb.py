"""The decorator that makes an Invoke task of a function, and what options of several verbs have in common."""

from __future__ import annotations

import contextlib
import functools
import inspect
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import Any

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from dindkit import defaults
from dindkit.command_line.failures import end, failure_of, handle_ends
from dindkit.command_line.recipe_arguments import PARAMETERS, chosen, name_recipe_here
from dindkit.command_line.standard_files import (
    escape_what_the_encoding_lacks,
    lines_aside,
    reader_has_gone,
    write_document,
)
from dindkit.errors import DindkitError
from dindkit.printing import choosing
from dindkit.progress import listening

#: The help of options that several verbs have; a verb may give its own.
COMMON_OPTIONS = {
    "image": f"a recipe: the path of its folder, or a name of images/ (default: {defaults.IMAGE})",
    "recipe": f"a recipe: the path of its folder, or a name of images/ (default: {defaults.IMAGE})",
    "engine": "auto, docker-ce or docker.io: which Docker engine goes into the image",
    "suite": f"the Debian suite (default: {defaults.SUITE})",
    "arch": "the Debian architecture (default: this machine's)",
    "builder": "run the packages' scripts on this engine: a Docker context, or an address as in DOCKER_HOST",
    "allow-expired": "accept an InRelease past its Valid-Until, and say so",
    "level": "zstd's level, 1 to 19; the archive and its digest depend on it, the image's id does not",
}


#: What every verb takes, and the verbs with a result for programs take, too.
QUIET = {"quiet": "print only results and errors"}
JSON = {"json": "print the result, or the error, as one JSON document: see docs/json.md"}


def verb(
    *,
    name: str = "",
    help: dict[str, str] | None = None,  # noqa: A002 - Invoke's own word
    positional: Sequence[str] = (),
    iterable: Sequence[str] = (),
) -> Callable[[Callable[..., None]], Any]:
    """Make an Invoke task of a function: exit code 0 only for success, errors as one or two sentences.

    `name`, `help` (option to text), `positional` and `iterable` are Invoke's own. Options have no short
    forms: Invoke would assign the first free letters, and so `-h` and `-o` to unexpected options. Every verb
    takes `--quiet`. A function with a parameter `json` gets a dict instead of the context, and puts into it
    what is printed with `--json` as the `result` of a document (see json_document).
    """

    def decorate(body: Callable[..., None]) -> Any:
        called = name or body.__name__
        options = inspect.signature(body).parameters
        PARAMETERS[called] = frozenset(options)

        @functools.wraps(body)
        def edge(context: Context, *args: Any, quiet: bool = False, **kwargs: Any) -> None:
            handle_ends()
            escape_what_the_encoding_lacks()
            found: dict[str, Any] = {}
            failure = None
            as_json = bool(kwargs.get("json"))
            with listening(quiet=quiet) as listener, choosing(chosen(called, options, kwargs)):
                try:
                    _refuse_dry_run(context, body.__name__)
                    with lines_aside(quiet=quiet) if as_json else contextlib.nullcontext():
                        name_recipe_here(called, kwargs)
                        body(found if "json" in options else context, *args, **kwargs)
                    sys.stdout.flush()
                except Exit:
                    raise
                except BrokenPipeError:
                    raise reader_has_gone() from None
                except (Exception, KeyboardInterrupt) as error:
                    failure = failure_of(error)
                if as_json:
                    write_document(called, found, failure, listener.warnings)
                if failure:
                    raise end(str(failure), failure.exit_code) from None

        edge.__signature__ = _with_quiet(body)  # type: ignore[attr-defined] # Invoke reads it
        return task(
            edge,
            name=name or None,
            help=_common_help(body) | QUIET | (JSON if "json" in options else {}) | (help or {}),
            positional=list(positional),
            iterable=list(iterable),
            auto_shortflags=False,
        )

    return decorate


def _refuse_dry_run(context: Context, name: str) -> None:
    if context.config.run.dry:
        called = name.replace("_", ".")
        raise DindkitError(f"{called} has no dry run; nothing was done.", f"See: invoke {called} --help")


def _with_quiet(body: Callable[..., None]) -> inspect.Signature:
    """Return the signature of `body` with one more parameter, `quiet`."""
    found = inspect.signature(body)
    quiet = inspect.Parameter("quiet", inspect.Parameter.KEYWORD_ONLY, default=False)
    return found.replace(parameters=[*found.parameters.values(), quiet])


def _common_help(body: Callable[..., None]) -> dict[str, str]:
    """Return the help of those of COMMON_OPTIONS that `body` has as parameters."""
    names = {name.replace("_", "-") for name in inspect.signature(body).parameters}
    return {name: text for name, text in COMMON_OPTIONS.items() if name in names}


def number(option: str, text: str) -> int:
    """Return the number that was given to `option`. Raises DindkitError where it is none."""
    try:
        return int(text)
    except ValueError:
        raise DindkitError(f"{option} wants a number, and {text!r} is none.") from None


def words(option: str, text: str) -> list[str]:
    """Return the words of what was given to `option`, quoted as in a shell. Raises DindkitError."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise DindkitError(f"{option} cannot be read: {str(error).lower()} in {text!r}.") from None
