"""The door to dindkit: one thin task per verb. `scripts/invoke --help VERB` shows an example for each."""

from __future__ import annotations

import shlex
from pathlib import Path

from invoke import Collection, Context

from dindkit.door import verb
from dindkit.progress import Progress
from dindkit.project import Project

# Each task imports what it needs when it runs, so that `invoke --list` and a build that is a look-up start at once.

ORDER_HELP = {
    "image": "a folder of images/ (default: dind)",
    "engine": "auto, docker-ce or docker.io: which Docker engine goes into the image",
    "suite": "the Debian suite (default: trixie)",
    "arch": "the Debian architecture (default: this machine's)",
    "allow-expired": "accept an InRelease past its Valid-Until, and say so",
}


@verb(
    help={
        **ORDER_HELP,
        "frozen": "use the lock and nothing else",
        "output": "write the archive to this file too",
    }
)
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
    """Assemble an image from its lock.

    Example: invoke build --image base --output base.tar
    """
    from dindkit.image.build import Order
    from dindkit.image.build import build as assemble

    from dindkit.engine import load

    progress = Progress()
    order = Order(image, engine, suite, arch, frozen=frozen, allow_expired=allow_expired)
    built = assemble(Project.here(), order, progress, Path(output) if output else None)
    load.offer(Project.here(), built, progress)
    print(f"built {built.reference} {built.image_id}")


@verb(
    help={
        "topology": "nested, socket, tls, tcp, swarm or all",
        "image": "prove this image instead of the one that build makes",
        "nested-image": "the image of the level-2 container, pulled if need be (default: our own base)",
    }
)
def smoke(_context: Context, topology: str = "nested", image: str = "", nested_image: str = "") -> None:
    """Say hello three levels deep: host, container, container in that container.

    Example: invoke smoke --topology all
    """
    from dindkit.engine import smoke as proof

    proof.run(Project.here(), Progress(), topology=topology, image=image, nested_image=nested_image)


@verb(help={**ORDER_HELP, "allow-downgrade": "accept a package version older than the lock's"})
def lock(
    _context: Context,
    image: str = "",
    engine: str = "auto",
    suite: str = "trixie",
    arch: str = "",
    allow_expired: bool = False,
    allow_downgrade: bool = False,
) -> None:
    """Solve, verify, write the lock, and print what changed.

    Example: invoke lock --engine docker.io
    """
    from dindkit.image import build as images

    order = images.Order(image or "dind", engine, suite, arch, allow_expired=allow_expired)
    images.lock(Project.here(), order, Progress(), allow_downgrade=allow_downgrade)


@verb(name="start", help={"cgroup2": "run the engine on cgroup v2 where the host mounts v1"})
def engine_start(_context: Context, cgroup2: bool = False) -> None:
    """Boot the built image as this host's Docker engine.

    Example: eval "$(invoke engine.start)"
    """
    from dindkit.image.build import Order
    from dindkit.image.build import build as assemble

    from dindkit.engine import embedded

    progress = Progress()
    built = assemble(Project.here(), Order(), progress)
    print(f"DOCKER_HOST={embedded.start(Project.here(), built, progress, cgroup2=cgroup2).host}")


@verb(name="stop", help={"purge": "delete the data root too: its images, containers and volumes"})
def engine_stop(_context: Context, purge: bool = False) -> None:
    """Stop the embedded engine and take away every process, mount, bridge and rule of it.

    Example: invoke engine.stop --purge
    """
    from dindkit.engine import embedded

    embedded.stop(Project.here(), Progress(), purge=purge)


@verb(name="status")
def engine_status(_context: Context) -> None:
    """Say whether the embedded engine runs; exit code 1 where it does not.

    Example: eval "$(invoke engine.status)"
    """
    from dindkit.engine import embedded

    print(f"DOCKER_HOST={embedded.status(Project.here()).host}")


@verb(help={"pytest": "arguments for pytest, in one string"})
def test(_context: Context, pytest: str = "") -> None:
    """Install what the tests need, and run them.

    Example: invoke test --pytest "tests/packages -k solver"
    """
    from dindkit import devtools

    devtools.test(Project.here(), shlex.split(pytest), Progress())


@verb()
def lint(_context: Context) -> None:
    """Run ruff, mypy, shellcheck and shfmt.

    Example: invoke lint
    """
    from dindkit import devtools

    devtools.lint(Project.here(), Progress())


namespace = Collection(build, smoke, lock, test, lint)
namespace.add_collection(Collection("engine", engine_start, engine_stop, engine_status))
