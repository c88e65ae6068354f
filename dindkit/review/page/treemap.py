"""A squarified treemap: areas in proportion to sizes, rectangles as near to squares as can be.

The layout is that of M. Bruls, K. Huizing and J. J. van Wijk, "Squarified Treemaps" (2000).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from dindkit.progress import size
from dindkit.review.page.markup import Markup, join, tag, void
from dindkit.review.report import Space

_WIDTH, _HEIGHT = 1120.0, 560.0
_HEAD = 22.0  # the strip above each layer's rectangles
_GAP = 2.0
#: Things below this share of a layer are drawn as one.
_SMALL = 0.004
#: A side or an area that is too small to be seen.
_LEAST = 1e-6
_PER_LETTER = 6.7  # about the width of a letter of the labels


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


def draw(space: Sequence[Space]) -> Markup:
    """Return the SVG: one field per layer with a rectangle for each package or kind of file."""
    order = list(dict.fromkeys(one.layer for one in space))
    layers = [
        (name, _merged(list(group)))
        for name, group in groupby(
            sorted(space, key=lambda one: order.index(one.layer)), lambda one: one.layer
        )
    ]
    layers.sort(key=lambda layer: -sum(one.size for one in layer[1]))
    sums = [sum(one.size for one in things) for _, things in layers]
    fields = squarify(sums, Box(0, 0, _WIDTH, _HEIGHT))
    colours = {name: index for index, name in enumerate(order)}
    drawn = [
        _field(name, things, total, box, colours[name])
        for (name, things), total, box in zip(layers, sums, fields, strict=True)
    ]
    return tag(
        "svg",
        *drawn,
        class_="treemap",
        viewBox=f"0 0 {_WIDTH:.0f} {_HEIGHT:.0f}",
        role="img",
        aria_label="What takes the space, by layer and package",
    )


def _merged(things: Sequence[Space]) -> list[Space]:
    """Draw what is too small to see as one."""
    things = sorted(things, key=lambda one: -one.size)
    least = _SMALL * sum(one.size for one in things)
    large = [one for one in things if one.size >= least]
    small = things[len(large) :]
    if small:
        rest = Space(
            small[0].layer, f"{len(small)} smaller ones", sum(one.size for one in small), package=True
        )
        large = sorted([*large, rest], key=lambda one: -one.size)
    return large


def _field(layer: str, things: Sequence[Space], total: int, box: Box, colour: int) -> Markup:
    inner = box.inset(_GAP, _HEAD)
    if not inner.width * inner.height:  # too small for parts: a recipe's own files
        whole = _cell(Space(layer, layer, total, package=False), box, 1.0)
        return tag("g", whole, class_=f"layer layer-{colour % 4}")
    title = _fitting(f"{layer} · {size(total)}", box.width)
    head = tag("text", title, x=f"{box.x + 6:.1f}", y=f"{box.y + 17:.1f}", class_="head")
    boxes = squarify([one.size for one in things], inner)
    cells = [_cell(one, place, one.size / things[0].size) for one, place in zip(things, boxes, strict=True)]
    return tag("g", head, *cells, class_=f"layer layer-{colour % 4}")


def _fitting(words: str, width: float) -> str:
    """Return `words`, cut to `width`; nothing where too little of them would be left."""
    letters = int(width / _PER_LETTER)
    if letters >= len(words):
        return words
    return f"{words[: letters - 1]}…" if letters >= 5 else ""


def _cell(thing: Space, box: Box, share: float) -> Markup:
    box = box.inset(0.75)
    rect = void(
        "rect",
        x=f"{box.x:.1f}",
        y=f"{box.y:.1f}",
        width=f"{box.width:.1f}",
        height=f"{box.height:.1f}",
        rx="2",
        fill_opacity=f"{0.7 + 0.3 * share:.2f}",
    )
    lines = [(thing.name, None), (size(thing.size), "quiet")]
    label = [
        tag("text", fitting, x=f"{box.x + 5:.1f}", y=f"{box.y + 14 * line:.1f}", class_=class_)
        for line, (words, class_) in enumerate(lines, 1)
        if box.height > 14 * line + 4 and (fitting := _fitting(words, box.width - 8))
    ]
    kind = "cell" if thing.package else "cell unowned"
    return tag(
        "g",
        tag("title", f"{thing.name}: {size(thing.size)}"),
        Markup(f"{rect[:-1]}/>"),
        join(*label),
        class_=kind,
    )
