"""The door to dindkit: one thin task per verb. `scripts/invoke --help VERB` shows an example for each."""

from __future__ import annotations

from pathlib import Path

from invoke import Collection, Context

from dindkit.door import verb
from dindkit.progress import Progress
from dindkit.project import Project


@verb
def build(
    _context: Context,
    image: str = "dind",
    engine: str = "auto",
    suite: str = "trixie",
    arch: str = "",
    frozen: bool = False,
    allow_expired: bool = False,
    output: str = "",
) -> None:
    """Assemble an image from its lock. Example: invoke build --image base"""
    from dindkit.image.build import Order, build as assemble
    from dindkit.engine.load import offer

    progress = Progress()
    order = Order(
        image=image, engine=engine, suite=suite, architecture=arch, frozen=frozen, allow_expired=allow_expired
    )
    built = assemble(Project.here(), order, progress, output=Path(output) if output else None)
    offer(built, progress)
    print(f"built {built.reference} {built.image_id}")  # noqa: T201 - the command's result


namespace = Collection(build)
