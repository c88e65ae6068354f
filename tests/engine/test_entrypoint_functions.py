"""Functions of the entrypoint by themselves, where no daemon would show them better."""

from __future__ import annotations

import subprocess

import pytest

from dindkit.project import Project

LIBRARY = Project.here().images / "dind/rootfs/usr/local/lib/dind"


def shell(script: str, *words: str) -> str:
    """Run `script` in the host's sh, with the entrypoint's files at hand."""
    command = ["sh", "-euc", f'cd "$1"; shift; {script}', "sh", str(LIBRARY), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--host", "tcp://0.0.0.0:2375"], ["host tcp://0.0.0.0:2375"]),
        (["--host=unix:///a=b"], ["host unix:///a=b"]),
        (["-H", "unix:///run/foo.sock"], ["host unix:///run/foo.sock"]),
        (["-Hunix:///run/foo.sock"], ["host unix:///run/foo.sock"]),
        (["-H=unix:///run/foo.sock"], ["host unix:///run/foo.sock"]),
        (["--data-root", "/srv/a=b/docker", "-p", "/x.pid"], ["data-root /srv/a=b/docker", "pidfile /x.pid"]),
        (["-D", "--tls=false", "--tlsverify"], ["debug true", "tls false", "tlsverify true"]),
        (["--label", "a=b", "-s", "vfs"], ["label a=b", "storage-driver vfs"]),
        (["--debug", "-l", "warn"], ["debug true", "log-level warn"]),
    ],
)  # fmt: skip
def test_arguments_in_every_form_that_dockerd_takes(words: list[str], expected: list[str]) -> None:
    table = shell('. ./tables.sh; read_arguments "$@"; printf %s "$ARGUMENTS"', *words)
    assert table.replace("\t", " ").splitlines() == expected


#: Keeps a containerd that dies at once until it is given up, or until it was started `$2` times.
KEEP = """
    . ./log.sh; . ./containerd.sh
    STATE=$(mktemp -d)
    trap 'cat "$STATE/starts"; rm -r "$STATE"; exit 0' TERM
    containerd() { echo started; return 1; }
    setsid() { "$@"; }
    LONG=$1
    : >"$STATE/starts"
    keep_containerd warn 2>/dev/null >>"$STATE/starts" &
    for _ in $(seq 300); do
        [ ! -e "$STATE/failed" ] && [ "$(wc -l <"$STATE/starts")" -lt "$2" ] || break
        sleep 0.1
    done
    kill "$!" 2>/dev/null || :
    kill "$$"
"""


def test_containerd_is_given_up_after_five_short_lives() -> None:
    assert shell(KEEP, "60", "100").split() == ["started"] * 5


def test_a_long_life_between_makes_up_for_it() -> None:
    assert len(shell(KEEP, "0", "8").split()) >= 8
