"""`engine.start`, `engine.stop` and `engine.status`: the embedded engine, or one in a virtual machine."""

from __future__ import annotations

import shlex

from dindkit import defaults
from dindkit.embedded import lifecycle as embedded
from dindkit.embedded.running import engine_image
from dindkit.engine import virtual
from dindkit.engine.discover import Engine
from dindkit.image.build import BuildOptions, build
from dindkit.progress import Progress
from dindkit.project import Project
from dindkit.vm import lifecycle as machine


def start(
    project: Project,
    progress: Progress,
    suite: str = defaults.SUITE,
    *,
    cgroup2: bool = False,
    in_machine: bool = False,
) -> str:
    """Build the image, boot it as an engine, and return the line for a shell. Raises DindkitError.

    With `in_machine` it runs in a virtual machine; `cgroup2` is for the embedded engine.
    """
    if in_machine:
        built = build(project, BuildOptions(suite=suite), progress)
        return _variables(project, machine.start(project, built, progress))
    built = engine_image(project, progress, suite=suite)
    return _variables(project, embedded.start(project, built, progress, cgroup2=cgroup2))


def stop(project: Project, progress: Progress, *, purge: bool = False) -> None:
    """Stop the engines that run, and with `purge` delete their data. Raises DindkitError."""
    in_machine = machine.exists(project)
    if in_machine:
        machine.stop(project, progress, purge=purge)
    if embedded.exists(project) or not in_machine:
        embedded.stop(project, progress, purge=purge)


def status(project: Project) -> str:
    """Return the line for a shell; raises EngineError where no engine of ours runs."""
    if machine.runs(project):
        return _variables(project, machine.status(project))
    return _variables(project, embedded.status(project))


def _variables(project: Project, engine: Engine) -> str:
    variables = {"DOCKER_HOST": engine.host}
    if not engine.host.startswith("unix://"):
        variables |= {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(virtual.certificates(project))}
    return "export " + " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
