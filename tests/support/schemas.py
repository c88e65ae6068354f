"""Check documents against the published schemas; more strictly, every field must be described."""

from __future__ import annotations

import json
from typing import Any

from jsonschema import Draft202012Validator

from dindkit.json_document import SCHEMAS, VERSION


def schema(verb: str) -> dict[str, Any]:
    """Return the published schema of a verb's documents."""
    found: dict[str, Any] = json.loads((SCHEMAS / f"{verb}-{VERSION}.json").read_text())
    return found


def check(verb: str, document: dict[str, Any]) -> dict[str, Any]:
    """Return `document`, which must be what the schema of `verb` describes, to the last field."""
    published = schema(verb)
    Draft202012Validator.check_schema(published)
    Draft202012Validator(published).validate(document)
    Draft202012Validator(_strict(published)).validate(document)
    return document


def _strict(part: Any) -> Any:
    """Return a schema that allows no properties but those that it describes."""
    if isinstance(part, list):
        return [_strict(one) for one in part]
    if not isinstance(part, dict):
        return part
    made = {key: _strict(value) for key, value in part.items()}
    if part.get("type") == "object" and "properties" in part:
        made["additionalProperties"] = False
    return made
