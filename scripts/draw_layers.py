#!/usr/bin/env python3
"""Draw docs/layers.svg: the packages of dindkit as import-linter's contract in pyproject.toml orders them.

Prints the picture: scripts/draw_layers.py >docs/layers.svg
"""

from __future__ import annotations

import ast
import sys
import tomllib
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parents[1]
#: Pixels.
WIDTH, ROW, GAP, TOP = 860, 34, 8, 34


def layers(root: Path = ROOT) -> list[list[str]]:
    """Return the contract's layers, highest first; packages of one layer do not import each other."""
    contracts = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (contract,) = (one for one in contracts if one["type"] == "layers")
    return [[name.strip() for name in layer.split("|")] for layer in contract["layers"]]


def subject(name: str, root: Path = ROOT) -> str:
    """Return the first sentence of the docstring of the package or module `name`."""
    package = root / "dindkit" / name
    file = package / "__init__.py" if package.is_dir() else package.with_suffix(".py")
    return (ast.get_docstring(ast.parse(file.read_text())) or "").partition("\n")[0].rstrip(".")


def draw(root: Path = ROOT) -> str:
    """Return the picture as SVG."""
    rows = layers(root)
    height = TOP + sum(len(names) * ROW + GAP for names in rows) + 4
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif"'
        ' font-size="13" role="img" aria-label="The packages of dindkit, each above what it may import">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        '<text x="16" y="21" fill="#555">A package imports those below it, none above or beside it.</text>',
    ]
    top = TOP
    for names in rows:
        tall = len(names) * ROW
        parts.append(
            f'<rect x="12" y="{top}" width="{WIDTH - 24}" height="{tall}" rx="6" fill="#eef3f8"'
            ' stroke="#7d93a8"/>'
        )
        for index, name in enumerate(names):
            base = top + index * ROW + 22
            parts.append(f'<text x="26" y="{base}" font-weight="bold" fill="#1c3448">{escape(name)}</text>')
            parts.append(f'<text x="140" y="{base}" fill="#333">{escape(subject(name, root))}</text>')
        top += tall + GAP
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    sys.stdout.write(draw())
