"""The picture of the packages is the one that import-linter's contract makes."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]


def drawing() -> ModuleType:
    spec = importlib.util.spec_from_file_location("draw_layers", ROOT / "scripts/draw_layers.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_picture_is_drawn_from_the_contract() -> None:
    drawn = drawing().draw(ROOT)
    assert (ROOT / "docs/layers.svg").read_text() == drawn, "run: scripts/draw_layers.py >docs/layers.svg"
    assert "layers.svg" in (ROOT / "docs/maintainers.md").read_text()


def test_every_package_is_in_the_contract_and_the_picture() -> None:
    known = {name for layer in drawing().layers(ROOT) for name in layer}
    there = {
        path.stem
        for path in (ROOT / "dindkit").iterdir()
        if (path.is_dir() and (path / "__init__.py").exists()) or path.suffix == ".py"
    }
    assert known == there - {"__init__"}
