"""`invoke smoke`: check that Docker runs in Docker, on the engine that answers or on the embedded engine."""

from __future__ import annotations

import contextlib
import secrets

from dindkit import defaults, leftovers, owner
from dindkit.embedded.running import running_engine
from dindkit.engine import images, load
from dindkit.engine.discover import Engine
from dindkit.errors import EngineError, did_you_mean
from dindkit.image.build import BuildOptions, Built, build
from dindkit.progress import Progress
from dindkit.project import Project
from dindkit.smoke.context import KIND, SmokeContext
from dindkit.smoke.topologies import BY_NAME_ONLY, TABLE, rootless


def run(
    project: Project,
    progress: Progress,
    topology: str = "nested",
    image: str = "",
    nested_image: str = "",
    recipe: str = defaults.IMAGE,
    suite: str = defaults.SUITE,
) -> None:
    """Check `topology` (one of TABLE, or `all`); raises EngineError where a part fails.

    `image` replaces the image under test, `nested_image` the one of the innermost containers; both are pulled
    if the engine lacks them.

    `recipe` is that of the image under test, `suite` that of the images that are built. The last log lines of
    a failed daemon are printed.
    """
    if topology not in (*TABLE, "all"):
        hint = did_you_mean(topology, (*TABLE, "all"))
        raise EngineError(
            f"There is no topology {topology}.", f"{hint}Choose one of: {', '.join(TABLE)}, all."
        )
    built = None if image else build(project, BuildOptions(recipe, suite=suite), progress)
    if built and not built.inputs.choice:
        raise EngineError(f"{built.reference} has no Docker engine to prove.", 'Give it one: parent = "dind"')
    base = build(project, BuildOptions(image="base", suite=suite), progress)
    with contextlib.ExitStack() as stack:
        found = stack.enter_context(running_engine(project, progress, built))
        leftovers.sweep(found.client, progress, KIND)
        # In the state folder, because an engine in a virtual machine may not see /tmp.
        folder = stack.enter_context(owner.workspace(project.state, KIND))
        if image:
            images.pull(found, image, progress)
        names = [topology]
        if topology == "all":
            names = [name for name in TABLE if name not in BY_NAME_ONLY]
        for name in names:
            tested = image or _load(project, name, found, built, suite, progress)
            (folder / name).mkdir()
            token = f"{name}-{secrets.token_hex(3)}"
            TABLE[name](SmokeContext(found, progress, tested, base, nested_image, folder / name, token))
            progress.note(f"{name}: passed on {found.host} ({found.found_by})")
        if topology == "all":
            for name, reason in sorted(BY_NAME_ONLY.items()):
                progress.note(f"{name}: only by name, {reason}: invoke smoke --topology {name}")


def _load(
    project: Project, topology: str, found: Engine, built: Built | None, suite: str, progress: Progress
) -> str:
    """Bring the image that `topology` is about into the engine, and return its reference."""
    if topology == "rootless" or built is None:
        built = build(project, BuildOptions(image=rootless.IMAGE, suite=suite), progress)
    load.load(found, built, progress)
    return built.reference
