"""Tables of the page, as data: a heading and how to fill its cell, for each column."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from dindkit.progress import size
from dindkit.review.page.markup import Markup, join, tag, void

Thing = TypeVar("Thing")


@dataclass(frozen=True)
class Column(Generic[Thing]):
    """`cell` returns the content, `value` the key to sort by where that is not the text."""

    head: str
    cell: Callable[[Thing], object]
    class_: str = ""
    value: Callable[[Thing], object] | None = None


def amount(head: str, get: Callable[[Thing], int]) -> Column[Thing]:
    """Return a column of sizes in bytes."""
    return Column(head, lambda thing: size(get(thing)), "number", get)


def digest(value: str) -> Markup:
    """Return a digest, shortened for the eye; focus or the mouse shows it whole."""
    return tag("code", value, class_="hash", tabindex="0", title=value) if value else Markup("")


def table(columns: Sequence[Column[Thing]], things: Iterable[Thing]) -> Markup:
    """Return a table to be read from top to bottom."""
    return tag("div", _table(columns, things), class_="scroll")


def long_table(
    name: str,
    columns: Sequence[Column[Thing]],
    things: Sequence[Thing],
    group: Callable[[Thing], str] | None = None,
    label: str = "",
) -> Markup:
    """Return a scrolling table with a filter; `group` adds a menu with the title `label`."""
    choice = Markup("")
    if group:
        groups = sorted({group(thing) for thing in things})
        options = [
            tag("option", f"every {label}", value=""),
            *(tag("option", one, value=one) for one in groups),
        ]
        choice = tag("select", *options, aria_label=label)
    search = void(
        "input", type="search", placeholder="filter", aria_label=f"filter {name}", autocomplete="off"
    )
    tools = tag(
        "div",
        search,
        choice,
        tag("output", class_="quiet"),
        class_="tools",
        data_table=f"table-{name}",
        hidden=True,
    )
    inner = _table(columns, things, id=f"table-{name}", group=group)
    return join(tools, tag("div", inner, class_="scroll tall", tabindex="0", role="region", aria_label=name))


def _table(
    columns: Sequence[Column[Thing]],
    things: Iterable[Thing],
    id: str | None = None,  # noqa: A002 - the attribute's name
    group: Callable[[Thing], str] | None = None,
) -> Markup:
    head = [tag("th", column.head, scope="col", class_=column.class_ or None) for column in columns]
    rows = [
        tag("tr", *(_cell(column, thing) for column in columns), data_group=group(thing) if group else None)
        for thing in things
    ]
    return tag("table", tag("thead", tag("tr", *head)), tag("tbody", *rows), id=id)


def _cell(column: Column[Thing], thing: Thing) -> Markup:
    value = column.value(thing) if column.value else None
    return tag("td", column.cell(thing), class_=column.class_ or None, data_value=value)
