"""The one JSON document that a verb prints with `--json`: docs/json.md, and a schema for each in schemas/."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, TextIO

from dindkit import errors
from dindkit.printing import json_result

#: The JSON Schema of each document, in files like `build-1.json`.
SCHEMAS = Path(__file__).parent / "schemas"

#: The version of every document. It grows where a field goes or gets another meaning, not for a new field.
VERSION = 1

#: What the document of a command line is called that names no verb with `--json`.
NO_VERB = "error"

#: The kinds of errors that are none of a class in dindkit.errors.
INTERRUPTED, SYSTEM, INTERNAL, USAGE = "interrupted", "system", "internal", "usage"


@dataclass(frozen=True)
class Failure:
    """Why a verb has failed."""

    #: For programs: see `kind_of`.
    kind: str
    #: For people: one sentence, and what to do next.
    cause: str
    next_step: str = ""
    exit_code: int = 1

    def __str__(self) -> str:
        """Return the line for standard error."""
        start = "" if self.kind == INTERRUPTED else "error: "
        return f"{start}{self.cause} {self.next_step}".strip()


def kind_of(error: errors.DindkitError) -> str:
    """Return the kind of an error: its class in dindkit.errors, as in `trust` and `tool-missing`."""
    named = next(one.__name__ for one in type(error).__mro__ if one.__module__ == errors.__name__)
    words = re.findall(r"[A-Z][a-z]+", named.removesuffix("Error"))
    return "-".join(words).lower() if words != ["Dindkit"] else "other"


def schema_name(verb: str) -> str:
    """Return what the documents of `verb` call their schema: `dindkit/build/1`."""
    return f"dindkit/{verb}/{VERSION}"


def document(
    verb: str, result: Mapping[str, Any], failure: Failure | None, warnings: Sequence[str]
) -> dict[str, Any]:
    """Return the document of one run of `verb`; a failure may have a result, too."""
    return {
        "schema": schema_name(verb),
        "ok": failure is None,
        "error": dataclasses.asdict(failure) if failure else None,
        "warnings": list(warnings),
        "result": dict(result) or None,
    }


def write(found: Mapping[str, Any], out: TextIO) -> None:
    """Print a document on `out` in ASCII, which every encoding of a terminal or a file has."""
    text = StringIO()
    json_result(json.dumps(found, indent=1, ensure_ascii=False), text)
    ascii_text = re.sub(r"[^\x00-\x7f]", lambda one: json.dumps(one[0])[1:-1], text.getvalue())
    # Line by line: of a single write that a reader has cut short, an unbuffered Python says nothing.
    out.writelines(f"{line}\n" for line in ascii_text.splitlines())


def plain(value: Any) -> Any:
    """Return a dataclass, or a list of them, as what JSON has: objects, lists, texts and numbers."""
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return dataclasses.asdict(value)
