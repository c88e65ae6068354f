"""`invoke test`, `lint` and `docs`: install what they need, and run it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from dindkit import process
from dindkit.engine import discover
from dindkit.errors import DindkitError
from dindkit.printing import result
from dindkit.progress import Progress
from dindkit.project import Project

#: Programs that the tests and linters call; `process.PACKAGE_OF` says which Debian package brings each.
TEST_TOOLS = (
    "bash",
    "chromium",
    "docker-registry",
    "faketime",
    "fish",
    "git",
    "gpg",
    "htpasswd",
    "ip",
    "iptables-nft",
    "mmdebstrap",
    "newuidmap",
    "nft",
    "npm",
    "openssl",
    "qemu-aarch64-static",
    "skopeo",
    "slirp4netns",
    "umoci",
    "zsh",
)
#: The suites beside the default one, and the tests that look at what they bring: another engine.
OTHER_SUITES = ("forky",)
BY_SUITE = ("tests/engine", "tests/smoke")
LINT_TOOLS = ("shellcheck", "shfmt")
#: import-linter has no `python -m`, and its script stops working when the environment is moved.
LINT_IMPORTS = "from importlinter.cli import lint_imports_command; lint_imports_command()"


def install_pins(project: Project, progress: Progress) -> None:
    """Install the versions of requirements/dev.txt, with their hashes, into the running environment.

    Raises CommandError where pip fails.
    """
    if project.installed:
        raise DindkitError("Tests and linters are in the repository of dindkit, not in an installed package.")
    pins = project.root / "requirements" / "dev.txt"
    stamp = Path(sys.prefix) / "dev-pins.txt"
    if stamp.exists() and stamp.read_bytes() == pins.read_bytes():
        return
    with progress.step("install test packages"):
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
        process.run([*pip, "install", "--quiet", "--quiet", "--require-hashes", "--requirement", pins])
        stamp.write_bytes(pins.read_bytes())


def install_tools(tools: Sequence[str], progress: Progress) -> None:
    """Install the Debian packages of those `tools` that are missing.

    Raises DindkitError, naming the one command to run, where this user may not install packages.
    """
    path = f"{os.environ.get('PATH', os.defpath)}:{process.SBIN}"
    missing = sorted({process.PACKAGE_OF[tool] for tool in tools if shutil.which(tool, path=path) is None})
    if not missing:
        return
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
    if os.geteuid() != 0:
        raise DindkitError(f"Missing: {', '.join(missing)}.", f"Run: sudo {' '.join(command)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with progress.step(f"install {', '.join(missing)}"):
        process.run(["apt-get", "update"], env=environment)
        process.run(command, env=environment)


def test(project: Project, arguments: Sequence[str], progress: Progress, *, quick: bool, full: bool) -> None:
    """Run the tests: all of them, or those that `arguments` for pytest name.

    With `quick`, those that need neither an engine nor Debian's archive, on all cores. With `full`, also
    what takes too long for each change, and what another suite's engine may change once more with that one.
    Raises DindkitError where a test fails.
    """
    install_pins(project, progress)
    install_tools(TEST_TOOLS, progress)
    if arguments or quick:
        chosen = ["--quick", "--numprocesses=auto"] if quick else []
        passed = _pytest(project, [*chosen, *(["--full"] if full else []), *arguments])
    elif full:
        with_full = _test_all(project, ["--full"])
        others = [_test_all(project, ["--suite", suite, *BY_SUITE]) for suite in OTHER_SUITES]
        passed = with_full and all(others)
    else:
        passed = _test_all(project, [])
    if not passed:
        raise DindkitError("The tests did not pass.", "See pytest's report above.")


def _pytest(project: Project, arguments: Sequence[str]) -> bool:
    return process.attach([sys.executable, "-m", "pytest", *arguments], cwd=project.root) == 0


def _test_all(project: Project, arguments: Sequence[str]) -> bool:
    """Run the tests that `arguments` choose, or all.

    In parallel, each worker in its own network with its own engine, which needs root; or else in turn. If an
    engine answers already, the tests use it, in turn.
    """
    if os.geteuid() != 0 or discover.find(project) is not None:
        return _pytest(project, arguments)
    # One more than cores: a test waits for daemons half of its time. Whole files go to one worker, so that a
    # module's fixtures are made once. In the order of their names: xdist's own order, by the number of tests,
    # leaves some long ones to the end, when the other workers have nothing left to do.
    workers = len(os.sched_getaffinity(0)) + 1
    spread = [f"--numprocesses={workers}", "--dist=loadfile", "--no-loadscope-reorder"]
    return _pytest(project, ["--hosts", *spread, *arguments])


def fuzz(project: Project, minutes: float, progress: Progress) -> None:
    """Try hostile input for `minutes`, and print the seed, the results, and the peak of memory.

    Raises DindkitError where something was found.
    """
    install_pins(project, progress)
    install_tools(TEST_TOOLS, progress)
    code = process.attach([sys.executable, "-m", "tests.fuzz", str(minutes)], cwd=project.root)
    if code:
        raise DindkitError("Hostile input broke a promise.", "See the report above.")


def faults(project: Project, progress: Progress) -> None:
    """End each step of the real project at ten moments by KILL, TERM and INT, and look at what is left.

    Raises DindkitError where a fault has left something, or the next run was not right.
    """
    install_pins(project, progress)
    install_tools(TEST_TOOLS, progress)
    if process.attach([sys.executable, "-m", "tests.faults"], cwd=project.root):
        raise DindkitError("A run that was ended has left something.", "See the report above.")


def _shell_files(project: Project) -> list[str]:
    """Return every tracked file whose first line is that of a shell script."""
    listed = process.run(["git", "ls-files", "-z"], cwd=project.root).stdout.decode().split("\0")
    found = []
    for name in filter(None, listed):
        path = project.root / name
        if path.suffix == ".sh" or (path.is_file() and path.open("rb").readline().startswith(b"#!/bin/sh")):
            found.append(name)
    return found


def docs(project: Project, progress: Progress) -> None:
    """Build the site of docs/ in site/, and print where.

    Raises DindkitError where MkDocs warns: of a dead link, an unknown anchor, a page that no menu names.
    """
    install_pins(project, progress)
    if process.attach([sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"], cwd=project.root):
        raise DindkitError("The site was not built.", "See the warnings above.")
    result(str(project.root / "site" / "index.html"))


def lint(project: Project, progress: Progress) -> None:
    """Run ruff, mypy, import-linter, shellcheck and shfmt over the project.

    Raises DindkitError that names the linters that complained.
    """
    install_pins(project, progress)
    install_tools(LINT_TOOLS, progress)
    scripts = _shell_files(project)
    python = [sys.executable, "-m"]
    linters: dict[str, list[str]] = {
        "ruff check": [*python, "ruff", "check", "."],
        "ruff format": [*python, "ruff", "format", "--check", "."],
        "mypy": [*python, "mypy"],
        "import-linter": [sys.executable, "-c", LINT_IMPORTS, "--no-cache", "--no-logo"],
        "shellcheck": ["shellcheck", "--external-sources", *scripts],
        "shfmt": ["shfmt", "--diff", *scripts],
    }
    unhappy = [name for name, command in linters.items() if process.attach(command, cwd=project.root)]
    if unhappy:
        raise DindkitError(f"{', '.join(unhappy)} found something.", "See the report above.")
    progress.note(f"{', '.join(linters)}: clean, {len(scripts)} shell files among what was read")
