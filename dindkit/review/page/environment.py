"""Jinja2's environment: everything that comes from outside is made visible, and escaped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from dindkit.printing import visible
from dindkit.progress import size


@cache
def environment() -> Environment:
    """Return the environment of the templates beside this module."""
    made = Environment(
        autoescape=True,
        loader=FunctionLoader(source),
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=StrictUndefined,
    )
    made.filters |= {"grouped": _grouped, "size": size, "tenth": _tenth, "thousands": "{:,}".format}
    return made


def source(name: str) -> str:
    """Return the text of a file in templates/."""
    return (resources.files(__package__) / "templates" / name).read_text("utf-8")


def fill(template: str, **values: Any) -> Markup:
    """Return a template filled with `values`, whose texts are made visible before, however deep they lie."""
    shown = {name: shown_value(value) for name, value in values.items()}
    return Markup(environment().get_template(template).render(shown))  # noqa: S704 - autoescape is on


def shown_value(value: Any) -> Any:
    """Return `value` with every text in it made visible: no name reorders or hides what stands beside it.

    Markup, which only templates make, stays.
    """
    if isinstance(value, str):
        return value if isinstance(value, Markup) else visible(value)
    if isinstance(value, list | tuple):
        return type(value)(map(shown_value, value))
    if isinstance(value, Mapping):
        return {shown_value(name): shown_value(one) for name, one in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return replace(
            value, **{one.name: shown_value(getattr(value, one.name)) for one in fields(value) if one.init}
        )
    return value


def _grouped(fingerprint: str) -> str:
    return " ".join(fingerprint[at : at + 4] for at in range(0, len(fingerprint), 4))


def _tenth(length: float) -> str:
    return f"{length:.1f}"
