"""What a run or an engine could leave on a host: processes, mounts, links, rules, sockets and files."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dindkit.embedded.paths import Paths
from dindkit.embedded.tree import PARTIAL
from dindkit.image.built import Built
from dindkit.project import Project
from tests.support.namespaces import join_network, leave_network
from tests.support.verb_server import run_verb

#: Of a run, in the environment of each of its processes.
MARK = "DINDKIT_FAULT"


@dataclass(frozen=True)
class Host:
    """A network namespace of its own on this machine, and a state folder that shares the built images."""

    pid: int
    project: Project

    def run(self, *argv: str, check: bool = True) -> str:
        """Run a program in the network namespace and return what it wrote to standard output."""
        return self.popen(*argv, check=check)[1]

    @property
    def enter(self) -> list[str]:
        """Return the words before a command line that have it run in the network namespace."""
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net"]

    def popen(self, *argv: str, check: bool = False) -> tuple[int, str, str]:
        done = subprocess.run(
            [*self.enter, *argv],
            capture_output=True,
            text=True,
            env=self.environment(),
            check=False,
        )
        assert not check or done.returncode == 0, (argv, done.stdout, done.stderr)
        return done.returncode, done.stdout, done.stderr

    def invoke(self, *arguments: str) -> list[str]:
        """Return the command line of a verb, to be run in the network namespace."""
        return [sys.executable, "-m", "invoke", "--search-root", str(self.project.root), *arguments]

    def verb(self, *arguments: str) -> str:
        """Run a verb in the network namespace and return its output; where it fails, so does the test."""
        code, out, err = self.try_verb(*arguments)
        assert code == 0, (arguments, out, err)
        return out

    def try_verb(self, *arguments: str) -> tuple[int, str, str]:
        """Return a verb's exit code, its output and its errors; see verb_server."""
        words = ["--search-root", str(self.project.root), *arguments]
        done = run_verb(words, self.environment(), Path(f"/proc/{self.pid}/ns/net"))
        return done.returncode, done.stdout, done.stderr

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")}
        return {
            **kept,
            "DINDKIT_STATE": str(self.project.state),
            "DINDKIT_CACHE": str(self.project.cache),
            "DOCKER_CONFIG": str(self.project.state / "no-docker-config"),
            "PYTHONPATH": str(self.project.root),
        }

    def footprint(self) -> set[str]:
        """Return all that must be the same before an engine starts and after it has stopped."""
        cgroups = Path("/sys/fs/cgroup")
        found = {
            "process": self.processes(),
            "mount": _mounts([self.project.state]),
            "link": [line.split(":")[0].strip() for line in self.run("cat", "/proc/net/dev").splitlines()],
            "nft": _rules(self.enter),
            "legacy": [line for line in self.legacy() if line.startswith("-A") or "DROP" in line],
            "setting": self.settings(),
            "cgroup": [top for top, _, _ in os.walk(cgroups) if top.endswith(Paths(self.project).cgroup)],
            "controllers": [
                path.read_text()
                for top in (cgroups, *cgroups.iterdir())
                for path in top.glob("cgroup.subtree_control")
            ],
            "run": [str(path) for path in [Paths(self.project).socket] if path.parent.is_symlink()],
        }
        return {f"{kind}: {what}" for kind, lines in found.items() for what in lines}

    def processes(self) -> list[str]:
        """Return the command lines of all processes in the network namespace, but for its holder."""
        ours = _namespace(self.pid)
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if _namespace(folder.name) == ours and folder.name != str(self.pid):
                    found.append((folder / "cmdline").read_text())
            except OSError:
                continue
        return found

    def legacy(self) -> list[str]:
        """Return iptables-legacy's rules; asked only where there are some, because asking makes tables."""
        if not self.run("cat", "/proc/net/ip_tables_names").strip():
            return []
        return [re.sub(r"\[.*", "", line) for line in self.run("iptables-legacy-save").splitlines()]

    def settings(self) -> list[str]:
        told = self.run("grep", "-rs", ".", "/proc/sys/net", "/proc/sys/kernel/keys", check=False)
        return sorted(line for line in told.splitlines() if not re.search(r"conntrack_count|random", line))


def _namespace(pid: int | str) -> str:
    return str(Path(f"/proc/{pid}/ns/net").readlink())


def share_images(project: Project, state: Path) -> None:
    """Let the state folder `state` have the images that `project` has built."""
    _share(project, state, ("code", "images", "layers", "packages"))


def copy_built(project: Project, state: Path, *images: Built) -> None:
    """Let the state folder `state` begin with `images` of `project`, and add to it what nobody else gets."""
    for name in ("code", "packages"):
        shutil.copytree(project.state / name, state / name)
    for built in images:
        shutil.copytree(built.folder, state / "images" / built.folder.name)
        for layer in built.layers:
            source = built.store.path(layer.diff_id).parent
            shutil.copytree(source, state / "layers" / source.name, dirs_exist_ok=True)


def share_layers(project: Project, state: Path) -> None:
    """Let the state folder `state` have the layers of packages that `project` has made, and no images."""
    _share(project, state, ("layers", "packages"))


def share_trees(project: Project, state: Path) -> None:
    """Let an engine in `state` have the trees that those of `project` start from.

    By a link for each: an engine that has started deletes all trees but its own, and none of these may go.
    """
    ours = state / "engine/trees"
    ours.mkdir(parents=True)
    for tree in Paths(project).trees.glob("*"):
        if tree.is_dir() and tree.name != PARTIAL:
            (ours / tree.name).symlink_to(tree)


def _share(project: Project, state: Path, names: Iterable[str]) -> None:
    for name in names:
        (state / name).parent.mkdir(parents=True, exist_ok=True)
        (project.state / name).mkdir(parents=True, exist_ok=True)
        (state / name).symlink_to(project.state / name)


@contextmanager
def new_host(project: Project, state: Path) -> Iterator[Host]:
    """Yield a host with nothing in it; built images and their trees come from `project`."""
    share_images(project, state)
    share_trees(project, state)
    with subprocess.Popen(["unshare", "--net", "sleep", "infinity"]) as holder:
        try:
            host = Host(holder.pid, Project(project.root, state, project.cache))
            while _namespace(holder.pid) == _namespace("self"):
                pass
            host.run("ip", "link", "set", "lo", "up")
            yield host
        finally:
            holder.kill()


@contextmanager
def own_network() -> Iterator[None]:
    """Have this thread, and what it starts, in a network of its own that has a loopback and nothing else.

    So links and rules that others add and remove meanwhile are not seen. Root only; everybody else stays
    where they are, and can change neither.
    """
    if os.geteuid() != 0:
        yield
        return
    with Path("/proc/thread-self/ns/net").open() as before:
        enter_new_network()
        try:
            yield
        finally:
            join_network(before.fileno())


def enter_new_network() -> None:
    """Move this thread, and what it starts, into a new network with a loopback. Raises OSError."""
    leave_network()
    subprocess.run([_program("ip"), "link", "set", "lo", "up"], check=True)


def _program(name: str) -> str:
    path = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    assert path, f"{name} is missing"
    return path


def snapshot(folders: Iterable[Path], mark: str, *, content: bool = True, network: bool = True) -> set[str]:
    """Return a line for each thing: the processes with `mark`, the network, what is in `folders`.

    `content` tells files by what they hold, too. The network is this thread's, and looked at by root alone;
    without `network` its links and rules are left out.
    """
    folders = list(folders)
    network = network and os.geteuid() == 0
    unix = [line.split()[-1] for line in Path("/proc/thread-self/net/unix").read_text().splitlines()[1:]]
    found = {
        "process": processes(mark),
        "mount": _mounts(folders),
        "link": [name for _, name in socket.if_nameindex()] if network else [],
        "rule": _rules() if network else [],
        "socket": [path for path in unix if any(path.startswith(str(one)) for one in folders)],
        "file": [line for folder in folders for line in _files(folder, content)],
    }
    return {f"{kind}: {line}" for kind, lines in found.items() for line in lines}


def processes(mark: str) -> list[str]:
    """Return the command lines of what lives with `mark` in its environment, or in the session it names."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _parent, _group, session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            marked = f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0")
            if state != "Z" and (session == mark or marked):
                found.append((folder / "cmdline").read_text().replace("\0", " ")[:200])
        except OSError:
            continue
    return found


def _mounts(folders: Iterable[Path]) -> list[str]:
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in mounts if any(str(one) in line for one in folders)]


def _rules(enter: Sequence[str] = ()) -> list[str]:
    command = [*enter, _program("nft"), "list", "ruleset"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return re.sub(r"packets \d+ bytes \d+", "", said).splitlines()


def _files(folder: Path, content: bool) -> list[str]:
    found = []
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(place, name)
            if path.is_symlink():
                found.append(f"{path} -> {path.readlink()}")
            elif path.is_file() and content:
                found.append(f"{path} {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}")
            else:
                found.append(str(path))
    return found
