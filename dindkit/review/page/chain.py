"""The picture of the chain of trust: key, archive, packages, layer, image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from dindkit.progress import size
from dindkit.review.page.environment import fill
from dindkit.review.report import Report

_COLUMNS = ("key", "archive", "packages", "layer", "image")
_CAPTIONS = (
    "a pinned key signs …",
    "… the InRelease of an archive, which names by hash …",
    "… every package, which are unpacked into …",
    "… layers, which make …",
    "… the image",
)
_WIDTH, _NODE, _STEP = 1266.0, 226.0, 259.0
_TOP, _GAP = 34.0, 16.0
_LINE = 17.5
_THICK = 46.0  # width of all ribbons of a column together
_THIN = 1.5
_NEUTRAL = 9  # colour of the ribbons after a layer


@dataclass(eq=False)
class _Node:
    """A box of the picture."""

    column: int
    title: str
    lines: list[str]
    y: float = 0.0

    @property
    def x(self) -> float:
        return self.column * _STEP

    @property
    def height(self) -> float:
        return 20 + _LINE * (1 + len(self.lines))


@dataclass(frozen=True, eq=False)
class _Flow:
    """A ribbon between two boxes of the picture; `weight` is in bytes."""

    source: _Node
    target: _Node
    weight: int
    colour: int


def draw(report: Report) -> Markup:
    """Return the SVG, and the same as a list. A ribbon is as wide as the bytes of its packages."""
    nodes, flows = _graph(report)
    columns = [[node for node in nodes if node.column == column] for column in range(len(_COLUMNS))]
    height = max(sum(node.height + _GAP for node in column) for column in columns)
    for column in columns:
        y = _TOP + (height - sum(node.height + _GAP for node in column) + _GAP) / 2
        for node in column:
            node.y = y
            y += node.height + _GAP
    return fill(
        "chain.html",
        captions=_CAPTIONS,
        columns=_COLUMNS,
        heads=[(f"{index * _STEP:.0f}", name) for index, name in enumerate(_COLUMNS)],
        height=f"{_TOP + height + 4:.0f}",
        line_height=_LINE,
        node_width=_NODE,
        nodes=nodes,
        ribbons=_ribbons(flows),
        width=f"{_WIDTH:.0f}",
    )


def _graph(report: Report) -> tuple[list[_Node], list[_Flow]]:
    names = list(dict.fromkeys(archive.name for archive in report.archives))
    bytes_of = Counter[str]()
    groups: dict[tuple[str, str], list[int]] = {}
    for package in report.packages:
        bytes_of[package.archive] += package.size
        groups.setdefault((package.layer, package.archive), []).append(package.size)
    image = _Node(4, report.image.reference, [_short(report.image.id), size(report.image.size)])
    layers = {
        layer.image: _Node(3, layer.image, [f"diff {_short(layer.diff_id)}", f"{size(layer.size)} packed"])
        for layer in report.layers
    }
    archives: dict[str, _Node] = {}
    keys: dict[str, _Node] = {}
    flows: list[_Flow] = []
    for name in names:
        releases = [one for one in report.archives if one.name == name]
        lines = [f"{one.suite}, {one.date[:10]}" for one in releases]
        archives[name] = _Node(1, name, lines)
        for release in releases:
            key = keys.setdefault(release.signer, _key_node(report, release.signer))
            flows.append(_Flow(key, archives[name], bytes_of[name] // len(releases), names.index(name)))
    piles = []
    for (layer, archive), sizes in groups.items():
        pile = _Node(
            2, f"{len(sizes)} package{'s' * (len(sizes) != 1)}", [f"{archive} → {layer}", size(sum(sizes))]
        )
        piles.append(pile)
        colour = names.index(archive) if archive in names else 0
        if archive in archives:
            flows.append(_Flow(archives[archive], pile, sum(sizes), colour))
        if layer in layers:
            flows.append(_Flow(pile, layers[layer], sum(sizes), colour))
    for name, box in layers.items():
        weight = sum(package.size for package in report.packages if package.layer == name)
        flows.append(_Flow(box, image, weight, _NEUTRAL))
    return [*keys.values(), *archives.values(), *piles, *layers.values(), image], flows


def _key_node(report: Report, fingerprint: str) -> _Node:
    file = next((key.file for key in report.keys if key.fingerprint == fingerprint), "not pinned")
    name = file.removesuffix(".asc").removeprefix("debian-archive-")
    return _Node(0, name, [f"… {fingerprint[-16:-8]} {fingerprint[-8:]}"])


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]


@dataclass(frozen=True)
class _Ribbon:
    """A ribbon as SVG draws it."""

    curve: str
    width: str
    colour: int


def _ribbons(flows: Sequence[_Flow]) -> list[_Ribbon]:
    total = max(1, sum(flow.weight for flow in flows if flow.source.column == 0))
    wide = {flow: max(_THIN, _THICK * flow.weight / total) for flow in flows}
    leaves: dict[_Flow, float] = {}
    arrives: dict[_Flow, float] = {}
    for node in {flow.source for flow in flows} | {flow.target for flow in flows}:
        outgoing = sorted((flow for flow in flows if flow.source is node), key=lambda flow: flow.target.y)
        incoming = sorted((flow for flow in flows if flow.target is node), key=lambda flow: flow.source.y)
        for side, places in ((outgoing, leaves), (incoming, arrives)):
            at = node.y + (node.height - sum(wide[flow] for flow in side)) / 2
            for flow in side:
                places[flow] = at + wide[flow] / 2
                at += wide[flow]
    return [_ribbon(flow, leaves[flow], arrives[flow], wide[flow]) for flow in flows]


def _ribbon(flow: _Flow, start: float, end: float, wide: float) -> _Ribbon:
    x0, x1 = flow.source.x + _NODE, flow.target.x
    middle = (x0 + x1) / 2
    curve = f"M{x0:.1f},{start:.1f} C{middle:.1f},{start:.1f} {middle:.1f},{end:.1f} {x1:.1f},{end:.1f}"
    return _Ribbon(curve, f"{wide:.1f}", flow.colour)
