"""Run other programs: every subprocess of this package starts here."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from dindkit.errors import DindkitError, ToolMissingError

#: Debian package that brings each program we may call, for the sentence that names a missing one.
PACKAGE_OF = {
    "bash": "bash",
    "chromium": "chromium",
    "cpio": "cpio",
    "docker-registry": "docker-registry",
    "faketime": "faketime",
    "fsck.erofs": "erofs-utils",
    "fish": "fish",
    "git": "git",
    "gpg": "gpg",
    "htpasswd": "apache2-utils",
    "ip": "iproute2",
    "iptables-nft": "iptables",
    "jq": "jq",
    "mmdebstrap": "mmdebstrap",
    "mount": "mount",
    "newuidmap": "uidmap",
    "nft": "nftables",
    "npm": "npm",
    "nsenter": "util-linux",
    "openssl": "openssl",
    "qemu-aarch64-static": "qemu-user-static",
    "qemu-system-aarch64": "qemu-system-arm",
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-x86_64-static": "qemu-user-static",
    "setpriv": "util-linux",
    "shellcheck": "shellcheck",
    "shfmt": "shfmt",
    "skopeo": "skopeo",
    "slirp4netns": "slirp4netns",
    "umoci": "umoci",
    "unshare": "util-linux",
    "zsh": "zsh",
}

#: A superuser's PATH: Debian leaves the sbin folders off for other users.
SBIN = "/usr/local/sbin:/usr/sbin:/sbin"


class CommandError(DindkitError):
    """A program ended with an exit code other than 0; `output` holds what it said."""

    def __init__(self, argv: Sequence[str], exit_code: int, output: str) -> None:
        last = output.strip().splitlines()[-1:] or ["it said nothing"]
        super().__init__(f"{shlex.join(argv[:4])} … failed with exit code {exit_code}: {last[0]}")
        self.argv = list(argv)
        self.returncode = exit_code
        self.output = output


def require(tool: str) -> str:
    """Return the path of `tool`, or raise ToolMissingError with the command that installs it."""
    found = shutil.which(tool, path=f"{os.environ.get('PATH', os.defpath)}:{SBIN}")
    if found is None:
        package = PACKAGE_OF.get(tool, tool)
        raise ToolMissingError(f"{tool} is not installed.", f"Run: apt-get install {package}")
    return found


def _words(argv: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Return `argv` with the program's path in the first place; raises ToolMissingError."""
    program, *rest = [os.fspath(word) for word in argv]
    return [program if "/" in program else require(program), *rest]


def run(
    argv: Sequence[str | os.PathLike[str]],
    *,
    input: bytes | None = None,  # noqa: A002 - subprocess's own name
    stdin: int | IO[bytes] | None = None,
    stdout: int | IO[bytes] = subprocess.PIPE,
    stderr: int | None = subprocess.PIPE,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float | None = None,
    check: bool = True,
) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end and return what it wrote.

    No shell interprets `argv`. `timeout` is in seconds. With `stderr` None, errors go where ours go. Where
    neither `input` nor `stdin` is given the program reads an empty input, so that nothing waits for a
    terminal.

    Raises ToolMissingError where the program is absent, CommandError where `check` is set and it fails, and
    DindkitError where it runs longer than `timeout`.
    """
    words = _words(argv)
    # subprocess.run() accepts only one of the two, even where the other is None.
    reads: dict[str, Any] = {"stdin": stdin or subprocess.DEVNULL} if input is None else {"input": input}
    try:
        done: subprocess.CompletedProcess[bytes] = subprocess.run(
            words,
            **reads,
            stdout=stdout,
            stderr=stderr,
            env=env,
            cwd=cwd,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DindkitError(f"{shlex.join(words[:4])} … did not end within {timeout:g} s.") from error
    if check and done.returncode:
        said = done.stderr or done.stdout or b""
        raise CommandError(words, done.returncode, said.decode(errors="replace"))
    return done


def spawn(
    argv: Sequence[str | os.PathLike[str]], *, env: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a program with pipes to its input, output and errors. The caller waits for it or ends it.

    It leads a process group of its own, by which it can be killed with all that it has started. Raises
    ToolMissingError where the program is absent.
    """
    words = _words(argv)
    pipe = subprocess.PIPE
    return subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, env=env, process_group=0)


def kill_group(running: subprocess.Popen[bytes]) -> None:
    """Kill what `spawn` has started, with all processes of its group, unless it has ended already."""
    if running.poll() is None:
        os.killpg(running.pid, signal.SIGKILL)


def start(argv: Sequence[str | os.PathLike[str]], log: Path) -> subprocess.Popen[bytes]:
    """Start a program that reads nothing, and append what it prints to `log`. The caller ends it.

    It has a session of its own: Ctrl-C on our terminal does not reach it. Raises ToolMissingError where the
    program is absent.
    """
    words = _words(argv)
    with log.open("ab") as out:
        return subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )


def attach(
    argv: Sequence[str | os.PathLike[str]], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> int:
    """Run a program on the user's own terminal, and return its exit code.

    Raises ToolMissingError where the program is absent.
    """
    words = _words(argv)
    return subprocess.run(words, env=env, cwd=cwd, check=False).returncode
