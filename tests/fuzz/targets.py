"""All targets."""

from __future__ import annotations

from tests.fuzz import debs, images, indexes, mirrors, registries, releases, tables

TARGETS = (
    *debs.TARGETS,
    *images.TARGETS,
    *releases.TARGETS,
    *indexes.TARGETS,
    *tables.TARGETS,
    *mirrors.TARGETS,
    *registries.TARGETS,
)
