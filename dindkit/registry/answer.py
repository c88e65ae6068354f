"""A registry's answer: of bounded size, with JSON that is not trusted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dindkit.errors import DindkitError


@dataclass(frozen=True)
class Answer:
    """A whole answer. `url` is the one that gave it, after redirects; `method` that of the request."""

    method: str
    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        """Whether the status is a success."""
        return 200 <= self.status < 300

    def json(self) -> Any:
        """Return the body as JSON, or None where it is none."""
        return load(self.body)

    def message(self) -> str:
        """Return the first error in the body (distribution-spec, "Error codes"), to end a sentence with."""
        try:
            first = self.json()["errors"][0]
            return f" ({str(first.get('message') or first['code'])[:200]})"
        except (KeyError, IndexError, TypeError, AttributeError):
            return ""


def load(body: bytes) -> Any:
    """Return what `body` holds as JSON, or None where it holds none, or more levels than can be read."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def index_entries(stored: bytes | None, where: str) -> list[dict[str, Any]]:
    """Return the descriptors in a stored index; an empty list where `stored` is None.

    OCI image-spec, "Image Index". Raises DindkitError, naming the index by `where`, where it is none.
    """
    if stored is None:
        return []
    index = load(stored)
    entries = index.get("manifests", []) if isinstance(index, dict) else None
    if not isinstance(entries, list) or not all(map(_is_descriptor, entries)):
        raise DindkitError(
            f"{where} is not an index that can be read.", "Delete it there, or use another tag."
        )
    return entries


def _is_descriptor(entry: object) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("digest"), str):
        return False
    platform = entry.get("platform", {})
    known = ("os", "architecture", "variant")
    return isinstance(platform, dict) and all(isinstance(platform.get(key, ""), str) for key in known)
