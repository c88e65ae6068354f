"""The command line: Invoke tasks whose errors are printed as a sentence, never as a traceback.

scripts/invoke runs this module as a program: Invoke, with clearer errors for a misspelt command line. The
console script `dindkit` is the same program with the verbs of tasks.py built in.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import inspect
import io
import os
import re
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

import invoke
from invoke.collection import Collection
from invoke.context import Context
from invoke.exceptions import Exit, ParseError
from invoke.parser import Parser
from invoke.parser.context import ParserContext
from invoke.program import Program
from invoke.tasks import task

from dindkit import completion, defaults, json_document
from dindkit.errors import DindkitError, Terminated, did_you_mean
from dindkit.json_document import Failure, kind_of
from dindkit.printing import as_called, choosing, shortened, visible
from dindkit.progress import Progress, listening
from dindkit.project import Project


def _terminated(_number: int, _frame: FrameType | None) -> None:
    raise Terminated


def _internal_error(error: BaseException) -> str:
    """Write the traceback to a file for maintainers, and return the sentence for the user."""
    try:
        report = Project.here().state / "last-error.txt"
        report.parent.mkdir(parents=True, exist_ok=True)
        said = "".join(traceback.format_exception(error))
        report.write_text(said, encoding="utf-8", errors="backslashreplace")
    except (OSError, DindkitError):
        return f"internal error: {error!r}."
    return f"internal error: {error!r}. The details are in {report}; please report them."


def _of_the_system(error: OSError) -> str:
    if explanation := getattr(error, "explanation", ""):  # Docker's client raises refusals as OSErrors
        return f"The engine refuses: {str(explanation).rstrip('.')}."
    name = error.filename
    where = f": {os.fsdecode(name) if isinstance(name, bytes) else name}" if name else ""
    return f"{error.strerror or error}{where}."


def _is_here() -> bool:
    try:
        Path.cwd()
    except FileNotFoundError:
        return False
    return True


def _end(sentence: str, code: int = 1) -> Exit:
    return Exit(visible(as_called(sentence)), code=code)


def _failure(error: BaseException) -> Failure:
    """Return what is said of `error`, which has ended a verb."""
    if isinstance(error, DindkitError):
        cause, next_step = shortened(as_called(error.cause)), as_called(error.next_step)
        return Failure(kind_of(error), cause, next_step, error.exit_code)
    if isinstance(error, KeyboardInterrupt):
        return Failure(json_document.INTERRUPTED, "interrupted; what was there before is unchanged.")
    if isinstance(error, FileNotFoundError) and error.filename is None and not _is_here():
        cause, next_step = "The folder that this was called in is gone.", "Change to one that is there."
        return Failure(json_document.SYSTEM, cause, next_step)
    if isinstance(error, OSError):
        return Failure(json_document.SYSTEM, _of_the_system(error))
    return Failure(json_document.INTERNAL, _internal_error(error))


def _refuse_dry_run(context: Context, name: str) -> None:
    if context.config.run.dry:
        called = name.replace("_", ".")
        raise DindkitError(f"{called} has no dry run; nothing was done.", f"See: invoke {called} --help")


def _print_what_the_locale_lacks() -> None:
    """Let standard output escape the characters that its encoding lacks, instead of failing."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _reader_has_gone() -> Exit:
    """Return how a verb ends whose standard output nobody reads any more.

    What is still in the buffer goes nowhere, or else Python fails once more when it ends, with an exit code
    of its own.
    """
    _drop_output()
    sys.stderr.close()
    return Exit(code=1)


def _open_standard_files() -> None:
    """Open those of the three standard files that are closed: else the next file that is opened is one.

    Messages go nowhere then. But a result that cannot be written is an error, and so output is not for
    writing: that fails as it would have.
    """
    for number, flags in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.dup2(os.open(os.devnull, flags), number)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115 - for as long as this process runs
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def _drop_output() -> None:
    """Let what is still to be written to standard output go nowhere."""
    with contextlib.suppress(io.UnsupportedOperation):  # of a text in memory
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def _lines_aside(*, quiet: bool) -> Iterator[None]:
    """In the block, print what goes to standard output on standard error; with `quiet` nowhere."""
    with contextlib.ExitStack() as stack:
        aside: TextIO = stack.enter_context(Path(os.devnull).open("w")) if quiet else sys.stderr
        stack.enter_context(contextlib.redirect_stdout(aside))
        yield


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
_parameters: dict[str, frozenset[str]] = {}
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
        _parameters[called] = frozenset(options)

        @functools.wraps(body)
        def edge(context: Context, *args: Any, quiet: bool = False, **kwargs: Any) -> None:
            signal.signal(signal.SIGTERM, _terminated)
            _print_what_the_locale_lacks()
            found: dict[str, Any] = {}
            failure = None
            as_json = bool(kwargs.get("json"))
            with listening(quiet=quiet) as listener, choosing(_chosen(called, options, kwargs)):
                try:
                    _refuse_dry_run(context, body.__name__)
                    with _lines_aside(quiet=quiet) if as_json else contextlib.nullcontext():
                        _name_recipe_here(called, kwargs)
                        body(found if "json" in options else context, *args, **kwargs)
                    sys.stdout.flush()
                except Exit:
                    raise
                except BrokenPipeError:
                    raise _reader_has_gone() from None
                except (Exception, KeyboardInterrupt) as error:
                    failure = _failure(error)
                if as_json:
                    _write_document(called, found, failure, listener.warnings)
                if failure:
                    raise _end(str(failure), failure.exit_code) from None

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


def _chosen(
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
    for other, parameters in _parameters.items():
        found[other] = {f"--{name}": text for name, text in words.items() if name in parameters}
        option = RECIPE_OPTIONS.get(other)
        if option and recipe and recipe != defaults.IMAGE:
            is_path = "/" in recipe or recipe in (".", "..")
            found[other][f"--{option}"] = shlex.join([recipe] if is_path else [f"--{option}", recipe])
    return found


def _name_recipe_here(verb: str, given: Mapping[str, Any]) -> None:
    """Say so where a recipe is here and `verb` takes another, as people expect the one that is here."""
    option = RECIPE_OPTIONS.get(verb)
    other = option == "recipe" and given.get("image")  # of smoke, shell and verify: an image that is there
    if option and given.get(option) == defaults.IMAGE and not other and Path("image.toml").is_file():
        Progress().note(f"This is for {defaults.IMAGE}. For the recipe in this folder: invoke {verb} .")


def _write_document(
    verb: str, found: Mapping[str, Any], failure: Failure | None, warnings: Sequence[str]
) -> None:
    try:
        json_document.write(json_document.document(verb, found, failure, warnings), sys.stdout)
        sys.stdout.flush()
    except BrokenPipeError:
        raise _reader_has_gone() from None


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


class Commands(Program):
    """Invoke with two changes: its parser's errors are helpful sentences, and `--help` may stand anywhere."""

    _made: Parser | None = None

    def _make_parser(self) -> Parser:
        """Make the parser once: tasks give the help of their options away when they are first asked."""
        if self._made is None:
            self._made = super()._make_parser()
        return self._made

    def run(self, argv: list[str] | None = None, exit: bool = True) -> None:  # noqa: A002 - Invoke's own word
        """Run the command line. What fails outside a verb, as a list that nobody reads, is a sentence."""
        _open_standard_files()
        try:
            try:
                super().run(argv, exit)
            except SystemExit as ended:
                try:
                    sys.stdout.flush()
                except OSError:
                    if not ended.code:
                        raise
                    _drop_output()  # a failure was told already, and is not told twice
                raise
            sys.stdout.flush()
        except BrokenPipeError:
            sys.exit(_reader_has_gone().code)
        except Exception as error:
            failure = _failure(error)
            _drop_output()
            sys.stderr.write(f"{_end(str(failure)).message}\n")
            sys.exit(failure.exit_code)

    def parse_core_args(self) -> None:
        """Parse what stands before the first verb."""
        with_sentence(super().parse_core_args, {})
        if shell := self.args["print-completion-script"].value:
            try:
                sys.stdout.write(completion.script(shell))
            except DindkitError as error:
                raise _end(f"error: {error}") from None
            raise Exit

    def parse_tasks(self) -> None:
        """Parse the verbs and what follows them, or note for which of them help is asked."""
        verbs = self._make_parser().contexts
        words = list(self.core.unparsed)
        asked = next((at for at, word in enumerate(words) if word in ("--help", "-h")), None)
        if asked is not None:
            # Invoke takes it for the value of an argument that it still expects.
            before = [word for word in words[:asked] if word in verbs]
            if before:
                self.args.help.value = before[-1]
                self.core.unparsed.clear()
        self.core.unparsed[:] = with_recipes(self.core.unparsed, verbs)
        with_sentence(lambda: _require_last_value(words, verbs), verbs, words)
        with_sentence(super().parse_tasks, verbs, words)
        if self.args.version.value:  # Invoke asks for it only before the first verb
            self.print_version()
            raise Exit
        with_sentence(lambda: _refuse_empty_values(self.tasks), verbs, words)

    def execute(self) -> None:
        """Run the verbs. A signal that comes after their end interrupts nothing, and is not to seem so."""
        super().execute()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)

    def parse_cleanup(self) -> None:
        """Print help, a list, or what a shell offers to type, where they are asked for."""
        if self.args.complete.value:
            words = self.core.remainder.split(" ")
            with contextlib.suppress(DindkitError):  # of a recipe, say; nothing is offered then
                for one in completion.candidates(words, self._make_parser().contexts, self.initial_context):
                    sys.stdout.write(f"{one}\n")
            raise Exit
        with_sentence(super().parse_cleanup, self.parser.contexts)


def _refuse_empty_values(tasks: Sequence[ParserContext]) -> None:
    """Raise ParseError where an option was given nothing, as by a variable of a shell that is not set.

    Where that means the default, another thing than was asked for would be done without a word: `verify
    --image ""` would verify the lock.
    """
    for context in tasks:
        for argument in context.args.values():
            if argument.kind is str and argument.default == "" and argument.got_value and not argument.value:
                raise ParseError(f"--{argument.name.replace('_', '-')} is empty.", context)


def _require_last_value(words: Sequence[str], verbs: Mapping[str, ParserContext]) -> None:
    """Raise ParseError where an option that may be repeated ends the line: Invoke ignores it then."""
    context = next((verbs[word] for word in reversed(words) if word in verbs), None)
    option = context.flags.get(words[-1]) if context and words else None
    if option is not None and option.kind is list:
        raise ParseError(f"{option} needed value", context)


def with_recipes(words: Sequence[str], verbs: Mapping[str, ParserContext]) -> list[str]:
    """Return the command line `words` with each path of a recipe as the value of its verb's option."""
    found: list[str] = []
    verb, is_value = "", False
    for word in words:
        said = word
        if is_value:
            is_value = False
        elif word in verbs:
            verb = word
        elif word.startswith("-"):
            option = verbs[verb].flags.get(word) if verb else None
            is_value = option is not None and option.takes_value
        elif verb in RECIPE_OPTIONS and _is_folder(word, certainly=bool(verbs[verb].positional_args)):
            said = f"--{RECIPE_OPTIONS[verb]}={word}"
        found.append(said)
    return found


def _is_folder(word: str, *, certainly: bool) -> bool:
    """Tell whether `word` is a path; `certainly` where it may also be a reference, `team/image:tag`."""
    if word in (".", "..") or word.startswith(("./", "../", "/")) or word.endswith("/"):
        return True
    return ("/" in word and not certainly) or os.path.isfile(os.path.join(word, "image.toml"))  # noqa: PTH113, PTH118


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
        _write_document(verb if with_json else json_document.NO_VERB, {}, failure, ())
    raise _end(str(failure))


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


def main() -> None:
    """Run Invoke on the command line."""
    Commands(
        name="Invoke",
        binary="inv[oke]",
        binary_names=["invoke", "inv"],
        version=invoke.__version__,
    ).run()


def dindkit() -> None:
    """Run the console script: the verbs of the tasks.py that is installed with this package."""
    sys.dont_write_bytecode = True
    verbs = _verbs()
    for name in verbs.task_names:
        verbs[name].__doc__ = as_called(verbs[name].__doc__ or "")
    Commands(
        name="dindkit",
        binary="dindkit",
        binary_names=["dindkit"],
        version=metadata.version("dindkit"),
        namespace=verbs,
    ).run()


def _verbs() -> Collection:
    """Return the namespace of tasks.py, which is no module of this package: Invoke finds it in a checkout."""
    spec = spec_from_file_location("tasks", Project.here().root / "tasks.py")
    assert spec is not None  # noqa: S101 - the name ends in .py
    assert spec.loader is not None  # noqa: S101
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Collection = module.namespace
    return found


if __name__ == "__main__":
    main()
