"""Completion as people meet it: real shells source the script, and are asked what Tab would offer."""

from __future__ import annotations

import functools
import os
import re
import select
import signal
import subprocess
from pathlib import Path

import pytest

from dindkit import completion
from dindkit.registry.publish import COMPRESSIONS
from dindkit.tools import option_values

ROOT = Path(__file__).parents[1]
INVOKE = "scripts/invoke"

#: What is typed -> some of what must be offered, and some of what must not.
OFFERED = {
    f"{INVOKE} bui": ({"build"}, {"smoke"}),
    f"{INVOKE} engine.st": ({"engine.start", "engine.status", "engine.stop"}, {"build"}),
    f"{INVOKE} build --im": ({"--image"}, {"--suite"}),
    f"{INVOKE} build --image ": ({"base", "dind", "git"}, {"build", "--suite"}),
    f"{INVOKE} build --image d": ({"dind"}, {"base"}),
    f"{INVOKE} build --image dind --suite ": ({"trixie", "forky"}, {"dind"}),
    f"{INVOKE} build --frozen smo": ({"smoke"}, set()),
    f"{INVOKE} build smoke --topology s": ({"socket", "swarm"}, {"nested", "smoke"}),
    f"{INVOKE} bench b": ({"boot", "build"}, {"bench"}),
    f"{INVOKE} push localhost:5000/x --compression ": ({"zstd", "gzip"}, {"build"}),
    f"{INVOKE} --li": ({"--list"}, {"--image"}),
}
#: What bash completes in a word with one of its word breaks is what follows the break.
AFTER_A_BREAK = {
    f"{INVOKE} build --image=d": {"dind"},
    f"{INVOKE} verify --image dindkit/dind:t": {"trixie"},
}


@functools.cache
def script(shell: str) -> str:
    """Return what a shell's start-up file is to run."""
    done = subprocess.run(
        [ROOT / INVOKE, "--print-completion-script", shell], capture_output=True, text=True, check=True
    )
    return done.stdout


def bash(typed: str) -> set[str]:
    """Return what bash would offer, by the function that it would call."""
    ask = """
        eval "$2"
        COMP_LINE=$1; COMP_POINT=${#COMP_LINE}
        registered=$(complete -p invoke); [[ $registered == *"-o default -F _dindkit "* ]] || exit 9
        _dindkit; printf '%s\\n' "${COMPREPLY[@]}"
    """
    words = ["bash", "-euc", ask, "bash", typed, script("bash")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return set(done.stdout.split())


@pytest.mark.parametrize("typed", OFFERED)
def test_bash(typed: str) -> None:
    wanted, unwanted = OFFERED[typed]
    found = bash(typed)
    assert wanted <= found
    assert not unwanted & found


@pytest.mark.parametrize("typed", AFTER_A_BREAK)
def test_bash_after_a_word_break(typed: str) -> None:
    assert AFTER_A_BREAK[typed] <= bash(typed)


@pytest.mark.parametrize("typed", ["build --output ", "build --tag x", "audit --html x"])
def test_where_anything_may_stand_files_are_offered(typed: str) -> None:
    """An empty answer, for which the script lets bash offer files."""
    assert bash(f"{INVOKE} {typed}") == set()


def _read(terminal: int, awaited: bytes) -> bytes:
    """Return what a terminal shows until `awaited` is there."""
    shown = b""
    while awaited not in shown:
        assert select.select([terminal], [], [], 60)[0], shown
        shown += os.read(terminal, 4096)
    return shown


def test_tab_in_an_interactive_bash(tmp_path: Path) -> None:
    """Keys go into a terminal, and the completed line comes back."""
    import pty

    source = f"source <({ROOT / INVOKE} --print-completion-script=bash)"
    (tmp_path / "rc").write_text(f"PS1='$ '; bind 'set bell-style none'; {source}\n")
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(ROOT)
        os.execlp("bash", "bash", "--rcfile", str(tmp_path / "rc"), "-i")
    try:
        _read(terminal, b"$ ")
        os.write(terminal, f"{INVOKE} build --image re\t".encode())
        shown = _read(terminal, b"gistry ")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(terminal)
    assert b"--image registry " in shown


@pytest.mark.parametrize("typed", OFFERED)
def test_fish(typed: str, tmp_path: Path) -> None:
    ask = "printf %s $argv[2] | source; complete --do-complete $argv[1]"
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    done = subprocess.run(
        ["fish", "--no-config", "--command", ask, typed, script("fish")],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = {line.split("\t")[0] for line in done.stdout.splitlines()}
    wanted, unwanted = OFFERED[typed]
    assert wanted <= found
    assert not unwanted & found


ZSH = r"""
zmodload zsh/zpty
zpty shell zsh -f -i
ask() { zpty -w shell "$1" }
ask "PS1='> '; autoload -Uz compinit && compinit -u -d $1/dump; cd $2"
ask "source <(scripts/invoke --print-completion-script zsh)"
ask "zstyle ':completion:*' list-prompt ''; LISTMAX=10000; print ready-for-it"
zpty -r -m shell line '*ready-for-it*ready-for-it*'
zpty -w -n shell "$3"$'\t'
zpty -r -m shell line "*$4*"
print -r -- $line
"""


@pytest.mark.parametrize(
    ("typed", "added"),
    [
        (f"{INVOKE} build --image re", "gistry"),
        (f"{INVOKE} build --image=re", "gistry"),
        (f"{INVOKE} bui", "ld"),
        (f"{INVOKE} smoke --topology nes", "ted"),
    ],
)
def test_tab_in_an_interactive_zsh(typed: str, added: str, tmp_path: Path) -> None:
    done = subprocess.run(
        ["zsh", "-f", "-c", ZSH, "zsh", str(tmp_path), str(ROOT), typed, added],
        env={**os.environ, "HOME": str(tmp_path), "TERM": "dumb"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert typed + added in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", done.stdout), done.stdout + done.stderr


def test_a_shell_that_is_not_known() -> None:
    done = subprocess.run(
        [ROOT / INVOKE, "--print-completion-script", "bsh"], capture_output=True, text=True, check=False
    )
    said = "error: There is no completion for 'bsh'. Did you mean bash or zsh? There is: bash, fish, zsh.\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)


@pytest.mark.parametrize("program", completion.PROGRAMS)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_program_is_registered(shell: str, program: str) -> None:
    assert re.search(rf"(?m)^(complete|compdef|for program in) .*\b{program}\b", completion.script(shell))


def test_the_values_are_those_that_the_verbs_take() -> None:
    assert set(option_values.find("push", "compression")) == set(COMPRESSIONS)
    assert {"auto", "docker.io", "docker-ce"} == set(option_values.find("build", "engine"))
    assert "amd64" in option_values.find("lock", "arch")
    assert not list(option_values.find("build", "level"))
