"""`invoke smoke`: check that Docker runs in Docker, on the engine that answers or on the embedded engine."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
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
from dindkit.smoke import machines
from dindkit.smoke.context import KIND, Machine, SmokeContext
from dindkit.smoke.topologies import BY_NAME_ONLY, TABLE, rootless
from dindkit.vm import qemu
from dindkit.vm.running import GIVEN, running_machine


def run(
    project: Project,
    progress: Progress,
    topology: str = "nested",
    image: str = "",
    nested_image: str = "",
    recipe: str = defaults.IMAGE,
    suite: str = defaults.SUITE,
    found: dict[str, Any] | None = None,
    *,
    architecture: str = "",
    in_machine: bool = False,
) -> None:
    """Check `topology` (one of TABLE, or `all`); raises EngineError where a part fails.

    Each that passed is printed; all are put into `found`: smoke-1.json.

    `image` replaces the image under test, `nested_image` the one of the innermost containers; both are pulled
    if the engine lacks them.

    `recipe` is that of the image under test, `suite` and `architecture` (default: this machine's) are those
    of the images that are built. The last log lines of a failed daemon are printed.

    The engine is that of a virtual machine with `in_machine`, and for an architecture that is not ours.
    """
    if topology not in (*TABLE, "all"):
        hint = did_you_mean(topology, (*TABLE, "all"))
        raise EngineError(
            f"There is no topology {topology}.", f"{hint}Choose one of: {', '.join(TABLE)}, all."
        )
    options = BuildOptions(recipe, suite=suite, architecture=architecture)
    in_machine = in_machine or options.target != BuildOptions().target
    built = build(project, options, progress) if in_machine or not image else None
    if built and not built.inputs.choice:
        raise EngineError(f"{built.reference} has no Docker engine to prove.", 'Give it one: parent = "dind"')
    base = build(project, replace(options, image="base"), progress)
    with contextlib.ExitStack() as stack:
        engine, machine, folder = stack.enter_context(
            _virtual(project, built, base, progress)
            if in_machine and built
            else _here(project, built, base, progress)
        )
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
            tested = image or _load(project, name, engine, built, options, progress)
            machine.run("mkdir", "-p", folder / name)
            token = f"{name}-{secrets.token_hex(3)}"
            started = time.monotonic()
            check: dict[str, Any] = {"topology": name, "image": tested, "passed": False}
            checks.append(check)
            try:
                TABLE[name](
                    SmokeContext(engine, progress, tested, base, nested_image, machine, folder / name, token)
                )
                check["passed"] = True
            finally:
                check["seconds"] = round(time.monotonic() - started, 3)
            result(f"{name}: passed on {engine.host} ({engine.found_by})")
        for name in by_name:
            progress.note(f"{name}: only by name, {BY_NAME_ONLY[name]}: invoke smoke --topology {name}")


@contextlib.contextmanager
def _here(
    project: Project, built: Built | None, base: Built, progress: Progress
) -> Iterator[tuple[Engine, Machine, Path]]:
    """Yield the engine that answers or the embedded one, this machine, and a folder that both see."""
    with running_engine(project, progress, built) as engine:
        leftovers.sweep(engine.client, progress, KIND)
        # In the state folder, because an engine in a virtual machine may not see /tmp.
        with owner.workspace(project.state, KIND) as folder:
            yield engine, machines.ThisMachine(machines.script(), base.archive), folder


@contextlib.contextmanager
def _virtual(
    project: Project, built: Built, base: Built, progress: Progress
) -> Iterator[tuple[Engine, Machine, Path]]:
    """Yield the engine of a virtual machine that boots `built`, the machine, and a folder in there."""
    files = {machines.ARCHIVE: base.archive, machines.SCRIPT: machines.script()}
    with (
        running_machine(project, built, progress, loaded={"image.tar": built}, files=files) as engine,
        machines.virtual_machine(
            engine, built.reference, emulated=not qemu.has_kvm(built.inputs.lock.architecture)
        ) as machine,
    ):
        yield engine, machine, Path("/", GIVEN, KIND)


def _described(engine: Engine) -> dict[str, str]:
    return {"host": engine.host, "found_by": engine.found_by}


def _load(
    project: Project,
    topology: str,
    engine: Engine,
    built: Built | None,
    options: BuildOptions,
    progress: Progress,
) -> str:
    """Bring the image that `topology` is about into the engine, and return its reference."""
    if topology == "rootless" or built is None:
        built = build(project, replace(options, image=rootless.IMAGE), progress)
    load.load(engine, built, progress)
    return built.reference
