"""In which order the files of tests run, and which of them one worker of pytest-xdist runs together.

Long files come first: at the end they would leave the other workers idle. Files that stand on the same costly
fixture of the whole run are together, so that it is made once.
"""

from __future__ import annotations

from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

#: Files below tests/ that take long, the longest first; those of one row stay together.
LONG = (
    # With --full: emulated machines, which take minutes each, and wait for nothing.
    ("vm/test_smoke.py",),
    # The local project, whose base image is built of Debian's packages.
    (
        "image/test_reproducible.py",
        "image/test_build_interrupted.py",
        "image/test_build.py",
        "image/test_hostile.py",
        "image/test_layers.py",
        "image/test_build_refused.py",
        "sandbox/test_choice.py",
        "sandbox/test_container.py",
    ),
    # The command line of the Dev Containers specification.
    (
        "examples/test_devcontainer_image.py",
        "examples/test_devcontainer_user.py",
        "examples/test_devcontainer.py",
    ),
    ("embedded/test_lifecycle.py",),
    ("test_installed.py",),
    ("smoke/test_smoke.py",),
    ("examples/test_git_cloner.py",),
    ("engine/test_entrypoint_survives.py",),
    ("engine/test_docker_ce.py",),
    ("image/test_oracle.py",),
    ("test_leftovers.py",),
    ("engine/test_entrypoint_cgroups.py",),
    ("engine/test_entrypoint_ipv6.py",),
    ("engine/test_entrypoint_settings.py",),
    ("engine/test_entrypoint_refuses.py",),
)

#: The name of a row's first file, and the place of a file among those of LONG, by its name below the root.
_ROWS = {f"tests/{name}": f"tests/{row[0]}" for row in LONG for name in row}
_PLACES = {name: place for place, name in enumerate(_ROWS)}


def place(file: str) -> int:
    """Return where `file`, named from the root, stands among the long ones; behind them where it is none."""
    return _PLACES.get(file, len(_PLACES))


class Scheduling(LoadFileScheduling):  # type: ignore[misc]
    """Gives each file to one worker, and the files of a row of LONG to the same."""

    def _split_scope(self, nodeid: str) -> str:
        file = str(super()._split_scope(nodeid))
        return _ROWS.get(file, file)
