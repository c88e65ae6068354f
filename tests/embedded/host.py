"""Look at a host from outside: all that an engine could leave behind in a network namespace and around it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dindkit.embedded.paths import Paths
from dindkit.project import Project


@dataclass(frozen=True)
class Host:
    """A network namespace of its own on this machine, and a state folder that shares the built images."""

    pid: int
    project: Project

    def run(self, *argv: str, check: bool = True) -> str:
        """Run a program in the network namespace and return what it wrote to standard output."""
        return self.popen(*argv, check=check)[1]

    def popen(self, *argv: str, check: bool = False) -> tuple[int, str, str]:
        done = subprocess.run(
            ["nsenter", f"--net=/proc/{self.pid}/ns/net", *argv],
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
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        cgroups = Path("/sys/fs/cgroup")
        found = {
            "process": self.processes(),
            "mount": [line for line in mounts if str(self.project.state) in line],
            "link": [line.split(":")[0].strip() for line in self.run("cat", "/proc/net/dev").splitlines()],
            "nft": re.sub(r"packets \d+ bytes \d+", "", self.run("nft", "list", "ruleset")).splitlines(),
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
    state.mkdir(parents=True, exist_ok=True)
    for name in ("code", "images", "layers", "packages"):
        (project.state / name).mkdir(exist_ok=True)
        (state / name).symlink_to(project.state / name)


@contextmanager
def new_host(project: Project, state: Path) -> Iterator[Host]:
    """Yield a host with nothing in it; built images and their trees come from `project`."""
    share_images(project, state)
    (state / "engine").mkdir()
    (project.state / "engine/trees").mkdir(parents=True, exist_ok=True)
    (state / "engine/trees").symlink_to(project.state / "engine/trees")
    with subprocess.Popen(["unshare", "--net", "sleep", "infinity"]) as holder:
        try:
            host = Host(holder.pid, Project(project.root, state, project.cache))
            while _namespace(holder.pid) == _namespace("self"):
                pass
            host.run("ip", "link", "set", "lo", "up")
            yield host
        finally:
            holder.kill()
