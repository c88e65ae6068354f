"""HTML and SVG as strings: everything that comes from outside is escaped, by construction."""

from __future__ import annotations

from html import escape
from typing import Any

from dindkit.printing import visible


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


def text(value: object) -> Markup:
    """Return `value` fit to stand between tags or in a quoted attribute.

    What cannot be seen is written out, so that no name reorders or hides what stands beside it.
    """
    return value if isinstance(value, Markup) else Markup(escape(visible(str(value))))


def join(*parts: object) -> Markup:
    """Put parts behind each other, escaping those that are not markup."""
    return Markup("".join(text(part) for part in parts))


def tag(name: str, /, *parts: object, **attributes: Any) -> Markup:
    """Return an element. `class_` and `for_` lose their underscore, other underscores become hyphens.

    An attribute that is None or False is left out, one that is True has no value.
    """
    words = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        attribute = key.rstrip("_").replace("_", "-")
        words.append(attribute if value is True else f'{attribute}="{text(value)}"')
    return Markup(f"<{' '.join(words)}>{join(*parts)}</{name}>")


def void(name: str, /, **attributes: Any) -> Markup:
    """Return an element that has no content, such as `meta`."""
    return Markup(tag(name, **attributes).removesuffix(f"</{name}>"))
