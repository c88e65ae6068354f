"""`devcontainer`, the command line of the Dev Containers specification, and what is asked of it."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from tests.examples.docker import Docker


@dataclass(frozen=True)
class Devcontainer:
    """`devcontainer` for one workspace folder."""

    program: Path
    docker: Docker
    workspace: Path
    #: More variables for the command line itself.
    environment: dict[str, str] = field(default_factory=dict)

    def __call__(self, verb: str, *words: str, stdin: Path | None = None) -> str:
        """Run `devcontainer VERB … WORDS` and return what it printed; a failure fails the test."""
        done = self.run(verb, *words, stdin=stdin)
        assert done.returncode == 0, f"devcontainer {verb} {words}: {done.stderr}{done.stdout}"
        return done.stdout.strip()

    def run(self, verb: str, *words: str, stdin: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run it to its end, whatever its exit code."""
        command = [str(self.program), verb, f"--workspace-folder={self.workspace}", *words]
        path = f"{self.docker.program.parent}:{self.docker.environment['PATH']}"
        with (stdin or Path(os.devnull)).open("rb") as source:
            return subprocess.run(
                command,
                env={**self.docker.environment, "PATH": path, **self.environment},
                stdin=source,
                capture_output=True,
                text=True,
            )

    def up(self, *words: str) -> dict[str, str]:
        """Bring it up, and return what was answered."""
        answer: dict[str, str] = json.loads(
            self("up", "--mount-workspace-git-root=false", *words).splitlines()[-1]
        )
        assert answer["outcome"] == "success"
        return answer

    def inside(self, *words: str, stdin: Path | None = None) -> str:
        return self("exec", *words, stdin=stdin)


def give(workspace: Path, uid: int) -> None:
    """Let a workspace and all in it belong to the user and the group `uid`."""
    for path in (workspace, *workspace.rglob("*")):
        os.chown(path, uid, uid)


def remove(docker: Docker, workspace: Path) -> None:
    """Take away what `devcontainer up` made: it has no command for that."""
    format_ = '{{.Config.Image}} {{range .Mounts}}{{if eq .Type "volume"}}{{.Name}} {{end}}{{end}}'
    label = f"--filter=label=devcontainer.local_folder={workspace}"
    for container in docker("ps", "--all", "--quiet", label).split():
        image, *volumes = docker("inspect", "--format", format_, container).split()
        docker("rm", "--force", "--volumes", container)
        docker.run("volume", "rm", *volumes)
        if not image.startswith("dindkit/"):
            docker.run("image", "rm", "--force", image, image.removesuffix("-uid"))
