"""`invoke test`, `lint` and `docs`: install what they need, and run it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dindkit import process
from dindkit.engine import discover
from dindkit.errors import DindkitError
from dindkit.files import locked
from dindkit.printing import result
from dindkit.progress import Progress
from dindkit.project import Project

#: Programs that the tests and linters call; `process.PACKAGE_OF` says which Debian package brings each.
TEST_TOOLS = (
    "bash",
    "chromium",
    "cpio",
    "docker-registry",
    "faketime",
    "fsck.erofs",
    "fish",
    "git",
    "gpg",
    "htpasswd",
    "ip",
    "iptables-nft",
    "jq",
    "mmdebstrap",
    "newuidmap",
    "nft",
    "npm",
    "openssl",
    "qemu-aarch64-static",
    "qemu-system-aarch64",
    "qemu-system-x86_64",
    "skopeo",
    "slirp4netns",
    "umoci",
    "zsh",
)
#: The suites beside the default one, and the tests that look at what they bring: another engine.
OTHER_SUITES = ("forky",)
BY_SUITE = ("tests/engine", "tests/smoke", "tests/embedded/test_data_root.py")
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
    if _are_installed(pins):
        return
    with _installing(), progress.step("install test packages"):
        if not _are_installed(pins):
            pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
            process.run([*pip, "install", "--quiet", "--quiet", "--require-hashes", "--requirement", pins])
            _stamp().write_bytes(pins.read_bytes())


def _are_installed(pins: Path) -> bool:
    return _stamp().exists() and _stamp().read_bytes() == pins.read_bytes()


def _stamp() -> Path:
    return Path(sys.prefix) / "dev-pins.txt"


def install_tools(tools: Sequence[str], progress: Progress) -> None:
    """Install the Debian packages of those `tools` that are missing.

    Raises DindkitError, naming the one command to run, where this user may not install packages.
    """
    missing = _missing(tools)
    if not missing:
        return
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
    if os.geteuid() != 0:
        raise DindkitError(f"Missing: {', '.join(missing)}.", f"Run: sudo {' '.join(command)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with _installing(), progress.step(f"install {', '.join(missing)}"):
        if _missing(tools):  # still, now that nobody else installs them
            process.run(["apt-get", "update"], env=environment)
            process.run(command, env=environment)


def _missing(tools: Sequence[str]) -> list[str]:
    path = f"{os.environ.get('PATH', os.defpath)}:{process.SBIN}"
    return sorted({process.PACKAGE_OF[tool] for tool in tools if shutil.which(tool, path=path) is None})


@contextmanager
def _installing() -> Iterator[None]:
    """Let one process at a time into the block: `lint` may run beside `test`, as in the gate."""
    with locked(Path(sys.prefix) / "installing.lock"):
        yield


def test(project: Project, arguments: Sequence[str], progress: Progress, *, quick: bool, full: bool) -> None:
    """Run the tests: all of them, or those that `arguments` for pytest name.

    With `quick`, those that need neither an engine nor Debian's archive, on all cores. With `full`, also
    what takes too long for each change, and what another suite's engine may change once more with that one.
    Raises DindkitError where a test fails.
    """
    install_pins(project, progress)
    install_tools(TEST_TOOLS, progress)
    if arguments or quick:
        chosen = ["--quick", f"--numprocesses={1 + _cores()}", "--dist=worksteal"] if quick else []
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


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _test_all(project: Project, arguments: Sequence[str]) -> bool:
    """Run the tests that `arguments` choose, or all.

    In parallel, each worker in its own network with its own engine, which needs root; or else in turn. If an
    engine answers already, the tests use it, in turn.
    """
    if os.geteuid() != 0 or discover.find(project) is not None:
        return _pytest(project, arguments)
    # Two tests for each core at once, for engines wait half of their time. Those that need none wait less.
    # Whole files go to one worker, so that a module's fixtures are made once, in the order of
    # tests/conftest.py: xdist's own order, by the number of tests, leaves some long ones to the end, when
    # other workers have nothing left to do.
    spread = [f"--numprocesses={2 * _cores()}", "--dist=loadfile", "--no-loadscope-reorder"]
    # Their files may be in memory, and there are some gigabytes of them.
    tidy = ["--override-ini=tmp_path_retention_policy=failed"]
    return _pytest(project, ["--hosts", *spread, *tidy, *arguments])


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
