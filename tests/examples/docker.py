"""The docker command line of our own image, run on this host, and what is asked of it again and again."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from docker.models.containers import Container

PLUGINS = "/usr/libexec/docker/cli-plugins"


@dataclass(frozen=True)
class Docker:
    """`docker` with the plugins compose and buildx."""

    program: Path
    environment: Mapping[str, str] = field(repr=False)
    folder: Path = Path("/")

    def run(self, *words: str, stdin: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run `docker WORDS` to its end, whatever its exit code."""
        with (stdin or Path(os.devnull)).open("rb") as source:
            return subprocess.run(
                [self.program, *words],
                env=self.environment,
                cwd=self.folder,
                stdin=source,
                capture_output=True,
                text=True,
            )

    def __call__(self, *words: str, stdin: Path | None = None) -> str:
        """Run `docker WORDS` and return what it printed; a failure fails the test with what it said."""
        done = self.run(*words, stdin=stdin)
        assert done.returncode == 0, f"docker {' '.join(words)}: {done.stderr or done.stdout}"
        return done.stdout.strip()

    def within(self, folder: Path, **environment: str) -> Docker:
        """Return the same, run in `folder` with more variables set."""
        return replace(self, folder=folder, environment={**self.environment, **environment})

    def gateway(self, network: str) -> str:
        """Return this host's address in `network`, where its containers reach it."""
        return self("network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", network)

    def is_gone(self, project: str) -> bool:
        """Whether nothing is left of a compose project."""
        label = f"--filter=label=com.docker.compose.project={project}"
        lists = (("ps", "--all"), ("volume", "ls"), ("network", "ls"))
        return not any(self(*words, "--quiet", label) for words in lists)

    @contextmanager
    def up(self, project: str, **environment: str) -> Iterator[Docker]:
        """Bring up the compose file of this folder, and take all of it down at the end."""
        docker = self.within(self.folder, COMPOSE_PROJECT_NAME=project, **environment)
        try:
            docker("compose", "up", "--quiet-pull", "--build", "--detach", "--wait")
            yield docker
        except BaseException:
            print(docker.run("compose", "logs", "--tail=30").stdout)  # noqa: T201 - pytest shows it
            raise
        finally:
            docker("compose", "down", "--volumes", "--rmi=local", "--timeout=20")


def take(container: Container, folder: Path) -> Path:
    """Bring the docker program and its plugins out of a container of our image into `folder`."""
    for source in ("/usr/bin/docker", PLUGINS):
        chunks, _ = container.get_archive(source)
        with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
            tar.extractall(folder, filter="data")
    return folder / "docker"
