"""`invoke smoke`: check that Docker runs in Docker, on the engine that answers or on the embedded engine."""

from __future__ import annotations

import contextlib
import secrets
import time
from typing import Any

from dindkit import defaults, leftovers, owner
from dindkit.embedded.running import running_engine
from dindkit.engine import images, load
from dindkit.engine.discover import Engine
from dindkit.errors import EngineError, did_you_mean
from dindkit.image.build import BuildOptions, Built, build
from dindkit.printing import result
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
    found: dict[str, Any] | None = None,
) -> None:
    """Check `topology` (one of TABLE, or `all`); raises EngineError where a part fails.

    Each that passed is printed; all are put into `found`: smoke-1.json.

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
        engine = stack.enter_context(running_engine(project, progress, built))
        leftovers.sweep(engine.client, progress, KIND)
        # In the state folder, because an engine in a virtual machine may not see /tmp.
        folder = stack.enter_context(owner.workspace(project.state, KIND))
        if image:
            images.pull(engine, image, progress)
        names = [topology]
        if topology == "all":
            names = [name for name in TABLE if name not in BY_NAME_ONLY]
        checks: list[dict[str, Any]] = []
        by_name = sorted(BY_NAME_ONLY) if topology == "all" else []
        if found is not None:
            found |= {"engine": _described(engine), "checks": checks, "left_out": by_name}
        for name in names:
            tested = image or _load(project, name, engine, built, suite, progress)
            (folder / name).mkdir()
            token = f"{name}-{secrets.token_hex(3)}"
            started = time.monotonic()
            check: dict[str, Any] = {"topology": name, "image": tested, "passed": False}
            checks.append(check)
            try:
                TABLE[name](SmokeContext(engine, progress, tested, base, nested_image, folder / name, token))
                check["passed"] = True
            finally:
                check["seconds"] = round(time.monotonic() - started, 3)
            result(f"{name}: passed on {engine.host} ({engine.found_by})")
        for name in by_name:
            progress.note(f"{name}: only by name, {BY_NAME_ONLY[name]}: invoke smoke --topology {name}")


def _described(engine: Engine) -> dict[str, str]:
    return {"host": engine.host, "found_by": engine.found_by}


def _load(
    project: Project, topology: str, engine: Engine, built: Built | None, suite: str, progress: Progress
) -> str:
    """Bring the image that `topology` is about into the engine, and return its reference."""
    if topology == "rootless" or built is None:
        built = build(project, BuildOptions(image=rootless.IMAGE, suite=suite), progress)
    load.load(engine, built, progress)
    return built.reference
