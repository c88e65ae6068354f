"""The verbs of dindkit: one thin task for each. `scripts/invoke --help VERB` shows an example for each."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from invoke.collection import Collection
from invoke.context import Context
from invoke.exceptions import Exit

from dindkit import completion, defaults
from dindkit.command_line.verb import number, verb, words
from dindkit.engine import sandbox as engine_sandbox
from dindkit.files import output_path
from dindkit.json_document import plain
from dindkit.printing import result
from dindkit.progress import Progress
from dindkit.project import Project
from dindkit.sandbox import choice
from dindkit.tools import option_values

# Each task imports what it needs when it runs, so that `invoke --list` starts at once.
# Options that several verbs have in common get their help from dindkit.command_line.verb.

choice.find_on_engine = engine_sandbox.find_sandbox
choice.on_builder = engine_sandbox.on_builder
completion.find_values = option_values.find


@verb(
    iterable=["tag"],
    help={
        "frozen": "use the lock and nothing else, and fail where another image than it promises comes out",
        "output": "write the image: FILE (- is standard output) or type=docker|oci|tar,dest=PATH[,tar=false]",
        "tag": "one more name for the image, NAME[:TAG]; may be given several times",
        "timings": "show how long each step took, as bars",
    },
)
def build(
    found: dict[str, Any],
    tag: list[str],
    image: str = defaults.IMAGE,
    engine: str = defaults.ENGINE,
    suite: str = defaults.SUITE,
    arch: str = "",
    frozen: bool = False,
    allow_expired: bool = False,
    output: str = "",
    level: str = "",
    timings: bool = False,
    builder: str = "",
    json: bool = False,
) -> None:
    """Assemble an image from its lock.

    Example: invoke build --image base --output base.tar
    """
    from dindkit.engine import build_and_load
    from dindkit.image.build_options import BuildOptions

    progress = Progress()
    options = BuildOptions(
        image, engine, suite, arch, frozen=frozen, allow_expired=allow_expired, builder=builder
    )
    wanted = number("--level", level) if level else None
    build_and_load.run(
        Project.here(), options, progress, found, output=output, level=wanted, tags=tag, as_json=json
    )
    if timings:
        progress.draw_steps()


@verb(
    positional=["folder"],
    iterable=["package"],
    help={
        "folder": "where to: it may exist, but not with a recipe in it",
        "parent": f"the image to add to: a name of images/, or a path (default: {defaults.IMAGE})",
        "package": "a Debian package to begin with; may be given several times",
    },
)
def init(_context: Context, folder: str, package: list[str], parent: str = defaults.IMAGE) -> None:
    """Begin a recipe of one's own: write a small image.toml with comments.

    Example: invoke init my-runner --parent dind --package make
    """
    from dindkit.image import new_recipe

    new_recipe.write(Project.here(), Progress(), Path(folder), parent, package)


@verb(
    help={
        "topology": "nested, socket, tls, tcp, swarm, rootless or all",
        "image": "prove this image instead of the one that build makes",
        "nested-image": "the image of the level-2 container: the engine's, else pulled (default: our base)",
        "vm": "boot the image in a virtual machine, under Debian's kernel; other architectures always do",
    }
)
def smoke(
    found: dict[str, Any],
    topology: str = "nested",
    image: str = "",
    nested_image: str = "",
    recipe: str = defaults.IMAGE,
    suite: str = defaults.SUITE,
    arch: str = "",
    vm: bool = False,
    json: bool = False,
) -> None:
    """Say hello three levels deep: host, container, container in that container.

    Example: invoke smoke --topology all
    """
    from dindkit.smoke import smoke as proof

    proof.run(
        *(Project.here(), Progress(), topology, image, nested_image, recipe, suite, found),
        architecture=arch,
        in_machine=vm,
    )


@verb(
    help={
        "allow-downgrade": "accept a package version older than the lock's",
        "seal": "keep the packages; build, and write the ids that came out into the locks",
        "all": "with --seal: every lock of images/, of all suites, engines and architectures",
        "kernel": "lock the kernel that virtual machines boot, instead of an image",
    }
)
def lock(
    found: dict[str, Any],
    image: str = defaults.IMAGE,
    engine: str = defaults.ENGINE,
    suite: str = defaults.SUITE,
    arch: str = "",
    allow_expired: bool = False,
    allow_downgrade: bool = False,
    seal: bool = False,
    all: bool = False,  # noqa: A002 - the option's name
    kernel: bool = False,
    json: bool = False,
) -> None:
    """Solve, verify, write the locks of all images over the same base, and print what changed.

    Example: invoke lock --engine docker.io
    """
    from dindkit.image import lock_verb
    from dindkit.image.build_options import BuildOptions
    from dindkit.vm import kernel_lock

    options = BuildOptions(image, engine, suite, arch, allow_expired=allow_expired)
    if kernel:
        change = kernel_lock.lock(Project.here(), options, Progress(), allow_downgrade=allow_downgrade)
        lock_verb.report([change], found)
        return
    lock_verb.run(
        Project.here(),
        options,
        Progress(),
        found,
        allow_downgrade=allow_downgrade,
        only_seal=seal,
        all_locks=all,
    )


@verb(
    help={
        "recipe": f"whose lock counts: a recipe's path, or a name of images/ (default: {defaults.IMAGE})",
        "image": "an archive, or a reference that the engine knows: is it what the lock builds?",
    }
)
def verify(
    found: dict[str, Any],
    image: str = "",
    recipe: str = defaults.IMAGE,
    engine: str = defaults.ENGINE,
    suite: str = defaults.SUITE,
    arch: str = "",
    builder: str = "",
    json: bool = False,
) -> None:
    """Rebuild from the lock in an empty cache and compare; exit code 0 only for equal.

    Example: invoke verify --image dindkit/dind:trixie
    """
    from dindkit.image.build_options import BuildOptions
    from dindkit.review import verify as review

    options = BuildOptions(recipe, engine, suite, arch, builder=builder)
    review.run(Project.here(), options, Progress(), sys.stdout, image=image, found=found)


@verb(
    help={
        "html": "write the report as one self-contained page to this file",
        "updates": "say which packages have newer versions; exit code 3 if a security update is waiting",
        "against": "say what changed since this archive, git revision of the locks, or image of the engine",
    }
)
def audit(
    found: dict[str, Any],
    image: str = defaults.IMAGE,
    engine: str = defaults.ENGINE,
    suite: str = defaults.SUITE,
    arch: str = "",
    json: bool = False,
    html: str = "",
    updates: bool = False,
    against: str = "",
) -> None:
    """Say what is in the image, who signed it, and why it is there.

    Example: invoke audit --html audit.html
    """
    from dindkit.image.build_options import BuildOptions
    from dindkit.review import audit as review

    page = output_path(html) if html else None
    options = BuildOptions(image, engine, suite, arch)
    review.audit(
        Project.here(),
        options,
        Progress(),
        sys.stdout,
        found=found if json else None,
        html=page,
        with_updates=updates,
        against=against,
    )


@verb(
    help={
        "output": "the file to write",
    }
)
def sbom(
    _context: Context,
    image: str = defaults.IMAGE,
    engine: str = defaults.ENGINE,
    suite: str = defaults.SUITE,
    arch: str = "",
    output: str = "",
) -> None:
    """Print the image's bill of materials, SPDX 2.3 in JSON.

    Example: invoke sbom --output dind.spdx.json
    """
    from dindkit.image import sbom
    from dindkit.image.build_options import BuildOptions

    options = BuildOptions(image, engine, suite, arch)
    sbom.run(Project.here(), options, Progress(), output_path(output) if output else None)


@verb(
    positional=["reference"],
    help={
        "reference": "where to, registry and all: registry.example:5000/team/dind:trixie",
        "arch": "architectures, separated by commas, under one index (default: this machine's)",
        "compression": "zstd or gzip",
        "insecure": "speak plain HTTP with a registry that is not on this machine",
        "join": "keep other architectures that the tag's index names already",
    },
)
def push(
    found: dict[str, Any],
    reference: str,
    image: str = defaults.IMAGE,
    engine: str = defaults.ENGINE,
    suite: str = defaults.SUITE,
    arch: str = "",
    compression: str = "zstd",
    level: str = "",
    insecure: bool = False,
    join: bool = False,
    json: bool = False,
) -> None:
    """Push the image, and its bill of materials as a referrer, to a registry.

    Example: invoke push localhost:5000/dind:trixie
    """
    from dindkit.image.build_options import BuildOptions
    from dindkit.registry import push as registry

    pushed = registry.push(
        Project.here(),
        BuildOptions(image, engine, suite),
        reference,
        Progress(),
        architectures=[name for name in arch.split(",") if name],
        compression=compression,
        level=number("--level", level) if level else None,
        insecure=insecure,
        join=join,
    )
    found |= plain(pushed)
    result(f"pushed {reference} {pushed.digest}")


@verb(
    help={
        "mount": "does the engine see this path of this machine, with the same content?",
    }
)
def doctor(found: dict[str, Any], mount: str = "", json: bool = False) -> None:
    """Say what the engine can and cannot do, and what will bite.

    Example: invoke doctor --mount .
    """
    from dindkit.tools import doctor as diagnosis

    diagnosis.run(Project.here(), Progress(), sys.stdout, mount=mount, found=found if json else None)


@verb(
    help={
        "folder": "what the container has at /app (default: this folder)",
        "image": "an image made from ours, instead of the one that build makes",
    }
)
def shell(
    _context: Context,
    folder: str = "",
    image: str = "",
    recipe: str = defaults.IMAGE,
    suite: str = defaults.SUITE,
) -> None:
    """Open a shell in a first-level container: this folder at /app, Docker ready.

    Example: invoke shell --folder ../service
    """
    from dindkit.tools import shell

    code = shell.run(Project.here(), Progress(), Path(folder) if folder else None, image, recipe, suite)
    if code:
        raise Exit(code=code)


@verb(
    name="start",
    positional=["upstream"],
    help={"upstream": "the URL of the registry whose images are kept: https://registry.example"},
)
def cache_start(_context: Context, upstream: str) -> None:
    """Start a registry that keeps what nested daemons pull through it, and print their setting for it.

    Example: invoke cache.start https://registry.example
    """
    from dindkit.tools import registry_cache

    result(f"{registry_cache.SETTING}={registry_cache.start(Project.here(), Progress(), upstream)}")


@verb(name="stop", help={"purge": "delete what it has kept too"})
def cache_stop(_context: Context, purge: bool = False) -> None:
    """Stop the registry that `cache.start` started.

    Example: invoke cache.stop --purge
    """
    from dindkit.tools import registry_cache

    registry_cache.stop(Project.here(), Progress(), purge=purge)


@verb(
    positional=["volume"],
    iterable=["image"],
    help={
        "volume": "a volume of the engine",
        "image": "an archive or a reference; may be given several times",
    },
)
def preload(_context: Context, volume: str, image: list[str]) -> None:
    """Load images into a volume, for a nested daemon that has it at /var/lib/docker.

    Example: invoke preload runner-data --image debian:12-slim --image tools.tar
    """
    from dindkit.tools import preload as loading

    for line in loading.run(Project.here(), Progress(), volume, image):
        result(line)


@verb(
    positional=["what"],
    help={
        "what": "boot or build",
        "pairs": "how many rounds to measure (default: 5)",
    },
)
def bench(
    found: dict[str, Any], what: str, pairs: str = "5", suite: str = defaults.SUITE, json: bool = False
) -> None:
    """Measure the time to ready against bare dockerd's, or builds against mmdebstrap.

    Example: invoke bench build --json > build.json
    """
    from dindkit.bench import verb as benches

    measured = benches.run(Project.here(), Progress(), what, number("--pairs", pairs), suite)
    found |= measured.figures()
    result(measured.as_text())


@verb(
    name="start",
    help={
        "cgroup2": "run the engine on cgroup v2 where the host mounts v1",
        "vm": "in a virtual machine of QEMU: needs neither root nor user namespaces",
    },
)
def engine_start(
    _context: Context, cgroup2: bool = False, vm: bool = False, suite: str = defaults.SUITE
) -> None:
    """Boot the built image as this host's Docker engine.

    Example: eval "$(invoke engine.start)"
    """
    from dindkit.tools import own_engine

    result(own_engine.start(Project.here(), Progress(), suite, cgroup2=cgroup2, in_machine=vm))


@verb(name="stop", help={"purge": "delete the data root too: its images, containers and volumes"})
def engine_stop(_context: Context, purge: bool = False) -> None:
    """Stop the engine that `engine.start` started, and take away every process, mount and rule of it.

    Example: invoke engine.stop --purge
    """
    from dindkit.tools import own_engine

    own_engine.stop(Project.here(), Progress(), purge=purge)


@verb(name="status")
def engine_status(_context: Context) -> None:
    """Say whether the engine of `engine.start` runs; exit code 1 where it does not.

    Example: eval "$(invoke engine.status)"
    """
    from dindkit.tools import own_engine

    result(own_engine.status(Project.here()))


@verb(
    help={
        "pytest": "arguments for pytest, in one string",
        "quick": "leave out what needs an engine or packages from Debian's archive",
        "full": "also what takes too long for each change: other outer engines, and the other suite's engine",
        "fuzz": "try hostile input for so many minutes instead",
        "faults": "end each step of the real project at ten moments instead; takes hours",
    }
)
def test(
    _context: Context,
    pytest: str = "",
    quick: bool = False,
    full: bool = False,
    fuzz: str = "",
    faults: bool = False,
) -> None:
    """Install what the tests need, and run them.

    Example: invoke test --pytest "tests/packages -k solver"
    """
    from dindkit import devtools

    if fuzz:
        devtools.fuzz(Project.here(), number("--fuzz", fuzz), Progress())
    elif faults:
        devtools.faults(Project.here(), Progress())
    else:
        devtools.test(Project.here(), words("--pytest", pytest), Progress(), quick=quick, full=full)


@verb()
def lint(_context: Context) -> None:
    """Run ruff, mypy, import-linter, shellcheck and shfmt.

    Example: invoke lint
    """
    from dindkit import devtools

    devtools.lint(Project.here(), Progress())


@verb()
def docs(_context: Context) -> None:
    """Build the site of docs/ in site/; a warning is an error.

    Example: invoke docs
    """
    from dindkit import devtools

    devtools.docs(Project.here(), Progress())


@verb(name="list")
def list_(found: dict[str, Any], json: bool = False) -> None:
    """List the images that were built, with ids, sizes, ages, and the locks that they are built from.

    Example: invoke list
    """
    from dindkit.tools import list_images

    list_images.run(Project.here(), Progress(), found)


@verb()
def version(found: dict[str, Any], json: bool = False) -> None:
    """Say which version this is, and what it has locks for.

    Example: invoke version
    """
    from dindkit.tools import version as versions

    versions.run(Project.here(), Progress(), found)


@verb(help={"downloads": "delete the download cache too"})
def clean(_context: Context, downloads: bool = False) -> None:
    """Delete the images that were built; the embedded engine's data goes with `engine.stop --purge`.

    Example: invoke clean --downloads
    """
    from dindkit import clean as cleaning

    cleaning.clean(Project.here(), Progress(), downloads=downloads)


namespace = Collection(
    init,
    build,
    smoke,
    lock,
    verify,
    audit,
    sbom,
    push,
    doctor,
    shell,
    preload,
    bench,
    test,
    lint,
    docs,
    clean,
)
namespace.add_task(list_)
namespace.add_task(version)
namespace.add_collection(Collection("engine", engine_start, engine_stop, engine_status))
namespace.add_collection(Collection("cache", cache_start, cache_stop))
