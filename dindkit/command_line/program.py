"""Invoke's program with clearer errors, as scripts/invoke and as the console script `dindkit`."""

from __future__ import annotations

import contextlib
import signal
import sys
from importlib import metadata
from importlib.util import module_from_spec, spec_from_file_location

import invoke
from invoke.collection import Collection
from invoke.exceptions import Exit
from invoke.parser import Parser
from invoke.program import Program

from dindkit import completion
from dindkit.command_line.failures import end, failure_of
from dindkit.command_line.parse_errors import refuse_empty_values, require_last_value, with_sentence
from dindkit.command_line.recipe_arguments import with_recipes
from dindkit.command_line.standard_files import drop_output, open_standard_files, reader_has_gone
from dindkit.errors import DindkitError
from dindkit.interrupts import ENDS
from dindkit.printing import as_called
from dindkit.project import Project


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
        open_standard_files()
        try:
            try:
                super().run(argv, exit)
            except SystemExit as ended:
                try:
                    sys.stdout.flush()
                except OSError:
                    if not ended.code:
                        raise
                    drop_output()  # a failure was told already, and is not told twice
                raise
            sys.stdout.flush()
        except BrokenPipeError:
            sys.exit(reader_has_gone().code)
        except Exception as error:
            failure = failure_of(error)
            drop_output()
            sys.stderr.write(f"{end(str(failure)).message}\n")
            sys.exit(failure.exit_code)

    def parse_core_args(self) -> None:
        """Parse what stands before the first verb."""
        with_sentence(super().parse_core_args, {})
        if shell := self.args["print-completion-script"].value:
            try:
                sys.stdout.write(completion.script(shell))
            except DindkitError as error:
                raise end(f"error: {error}") from None
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
        with_sentence(lambda: require_last_value(words, verbs), verbs, words)
        with_sentence(super().parse_tasks, verbs, words)
        if self.args.version.value:  # Invoke asks for it only before the first verb
            self.print_version()
            raise Exit
        with_sentence(lambda: refuse_empty_values(self.tasks), verbs, words)

    def execute(self) -> None:
        """Run the verbs. A signal that comes after their end interrupts nothing, and is not to seem so."""
        super().execute()
        for number in ENDS:
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
