"""A squarified treemap: areas in proportion to sizes, rectangles as near to squares as can be.

The layout is that of M. Bruls, K. Huizing and J. J. van Wijk, "Squarified Treemaps" (2000).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup

from dindkit.progress import size
from dindkit.review.page.environment import fill
from dindkit.review.report import Space

#: Width and height of the drawing for a wide page, and of the one for a narrow page.
_SHAPES = {"wide": (1120.0, 560.0), "narrow": (380.0, 760.0)}
_HEAD = 22.0  # the strip above each layer's rectangles
_GAP = 2.0
#: Things below this share of a layer are drawn as one.
_SMALL = 0.004
#: A side or an area that is too small to be seen.
_LEAST = 1e-6
_PER_LETTER = 6.7  # about the width of a letter of the labels
_PER_BOLD_LETTER = 8.0  # of the titles of layers
_COLOURS = 4  # of the style sheet, for layers


@dataclass(frozen=True)
class Box:
    """A rectangle."""

    x: float
    y: float
    width: float
    height: float

    def inset(self, gap: float, top: float = 0.0) -> Box:
        """Return the box without `gap` on each side and `top` more above."""
        width, height = self.width - 2 * gap, self.height - 2 * gap - top
        return Box(self.x + gap, self.y + gap + top, max(width, 0.0), max(height, 0.0))


def squarify(sizes: Sequence[float], box: Box) -> list[Box]:
    """Return one box for each of `sizes`, which are positive and fall; together they fill `box`.

    Where `box` is too small to be seen, they are empty.
    """
    scale = box.width * box.height / sum(sizes) if sizes else 0.0
    areas = [one * scale for one in sizes]
    boxes: list[Box] = []
    while areas:
        side = min(box.width, box.height)
        if side < _LEAST or areas[0] < _LEAST:
            return [*boxes, *(Box(box.x, box.y, 0.0, 0.0) for _ in areas)]
        count = 1
        while count < len(areas) and _worst(areas[: count + 1], side) <= _worst(areas[:count], side):
            count += 1
        row, areas = areas[:count], areas[count:]
        placed, box = _lay(row, box)
        boxes += placed
    return boxes


def _worst(row: Sequence[float], side: float) -> float:
    """Return the largest ratio of sides in a row of areas laid along `side`."""
    depth = sum(row) / side
    return max(max(depth * depth / area, area / (depth * depth)) for area in row)


def _lay(row: Sequence[float], box: Box) -> tuple[list[Box], Box]:
    """Lay a row along the shorter side of `box`; return its boxes and what is left of `box`."""
    total = sum(row)
    boxes: list[Box] = []
    if box.width >= box.height:
        depth, at = total / box.height, box.y
        for area in row:
            boxes.append(Box(box.x, at, depth, area / depth))
            at += area / depth
        return boxes, Box(box.x + depth, box.y, box.width - depth, box.height)
    depth, at = total / box.width, box.x
    for area in row:
        boxes.append(Box(at, box.y, area / depth, depth))
        at += area / depth
    return boxes, Box(box.x, box.y + depth, box.width, box.height - depth)


@dataclass(frozen=True)
class _Cell:
    """A package, or a kind of file that no package owns; `lines` are what fits into the box."""

    box: Box
    title: str
    lines: tuple[str, ...]
    opacity: str
    package: bool


@dataclass(frozen=True)
class _Field:
    """A layer."""

    box: Box
    title: str
    colour: int
    cells: tuple[_Cell, ...]


def draw(space: Sequence[Space]) -> Markup:
    """Return two SVGs, for wide and for narrow pages: a field for each layer, in it its packages."""
    order = list(dict.fromkeys(one.layer for one in space))
    space = [one for one in space if one.size]
    layers = [
        (name, _merged(list(group)))
        for name, group in groupby(
            sorted(space, key=lambda one: order.index(one.layer)), lambda one: one.layer
        )
    ]
    layers.sort(key=lambda layer: -sum(one.size for one in layer[1]))
    return Markup("").join(_draw(layers, order, name) for name in _SHAPES)


def _draw(layers: Sequence[tuple[str, Sequence[Space]]], order: Sequence[str], shape: str) -> Markup:
    width, height = _SHAPES[shape]
    sums = [sum(one.size for one in things) for _, things in layers]
    boxes = squarify(sums, Box(0, 0, width, height))
    fields = [
        _field(name, things, total, box, order.index(name) % _COLOURS)
        for (name, things), total, box in zip(layers, sums, boxes, strict=True)
    ]
    return fill("treemap.html", fields=fields, shape=shape, width=f"{width:.0f}", height=f"{height:.0f}")


def _merged(things: Sequence[Space]) -> list[Space]:
    """Draw what is too small to see as one."""
    things = sorted(things, key=lambda one: -one.size)
    least = _SMALL * sum(one.size for one in things)
    large = [one for one in things if one.size >= least]
    small = things[len(large) :]
    if small:
        rest = Space(
            small[0].layer,
            f"{len(small)} smaller ones",
            sum(one.size for one in small),
            package=True,
            compressed=sum(one.compressed for one in small),
        )
        large = sorted([*large, rest], key=lambda one: -one.size)
    return large


def _field(layer: str, things: Sequence[Space], total: int, box: Box, colour: int) -> _Field:
    inner = box.inset(_GAP, _HEAD)
    packed = sum(one.compressed for one in things)
    if not inner.width * inner.height:  # too small for parts: a recipe's own files
        return _Field(box, "", colour, (_cell(Space(layer, layer, total, False, packed), box, 1.0),))
    boxes = squarify([one.size for one in things], inner)
    cells = (_cell(one, place, one.size / things[0].size) for one, place in zip(things, boxes, strict=True))
    titles = (f"{layer} · {size(total)}, {size(packed)} packed", f"{layer} · {size(total)}")
    room = int((box.width - 6) / _PER_BOLD_LETTER)
    whole = (title for title in titles if len(title) <= room)
    title = next(whole, _fitting(layer, box.width - 6, _PER_BOLD_LETTER))
    return _Field(box, title, colour, tuple(cells))


def _fitting(words: str, width: float, letter: float = _PER_LETTER) -> str:
    """Return `words`, cut to `width`; nothing where too little of them would be left."""
    letters = int(width / letter)
    if letters >= len(words):
        return words
    return f"{words[: letters - 1]}…" if letters >= 5 else ""


def _cell(thing: Space, box: Box, share: float) -> _Cell:
    box = box.inset(0.75)
    words = (thing.name, size(thing.size), f"{size(thing.compressed)} packed")
    lines = tuple(
        fitting if box.height > 14 * line + 4 and (line == 1 or fitting == text) else ""  # no figure is cut
        for line, text in enumerate(words, 1)
        for fitting in [_fitting(text, box.width - 8)]
    )
    title = f"{thing.name}: {size(thing.size)}, {size(thing.compressed)} compressed"
    return _Cell(box, title, lines, f"{0.7 + 0.3 * share:.2f}", thing.package)
