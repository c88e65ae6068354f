"""The image itself as a devcontainer, by its label: {"image": …}, with features, and users of every kind."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dindkit.image.build import Built
from tests.examples.devcontainer import Devcontainer, give, remove
from tests.examples.docker import Docker

pytestmark = pytest.mark.engine

Maker = Callable[..., Devcontainer]

#: Docker in each command of a devcontainer's life: none of them is refused.
COMMANDS = {
    "onCreateCommand": "docker info -f '{{.ID}}' >created",
    "updateContentCommand": "docker info -f '{{.ID}}' >updated",
    "postCreateCommand": "docker info -f '{{.ID}}' >after",
}

#: A stand-in for the feature common-utils, which lies in a registry: it makes a user, who may use sudo.
COMMON_UTILS = """#!/bin/sh
set -e
apt-get update -q >/dev/null
apt-get install -qy --no-install-recommends sudo >/dev/null
useradd --create-home --shell /bin/bash vscode
echo 'vscode ALL=(root) NOPASSWD:ALL' >/etc/sudoers.d/vscode
"""

#: A stand-in for docker-in-docker, with the start-up file by which it is known.
DOCKER_IN_DOCKER = """#!/bin/sh
printf '#!/bin/sh\\ndockerd &\\n' >/usr/local/share/docker-init.sh
chmod 755 /usr/local/share/docker-init.sh
"""

#: One for docker-outside-of-docker, whose daemon is where its socket leads.
DOCKER_OUTSIDE = """#!/bin/sh
ln -s /var/run/docker-host.sock /var/run/docker.sock
printf '#!/bin/sh\\n' >/usr/local/share/docker-init.sh
chmod 755 /usr/local/share/docker-init.sh
"""

DEV = """
FROM {image}
RUN apt-get update -q && apt-get install -qy --no-install-recommends sudo && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home --shell /bin/bash --groups docker dev
{sudo}
{user}
"""
SUDO = "RUN echo 'dev ALL=(root) NOPASSWD:ALL' >/etc/sudoers.d/dev"


@pytest.fixture
def make(devcontainer_cli: Path, docker: Docker, tmp_path: Path) -> Iterator[Maker]:
    """Yield what makes a workspace of uid 1000 with a devcontainer.json, and features that lie beside it."""
    made: list[Devcontainer] = []

    def one(
        settings: dict[str, Any],
        *,
        features: dict[str, str] | None = None,
        dockerfile: str = "",
        environment: dict[str, str] | None = None,
    ) -> Devcontainer:
        workspace = tmp_path / f"workspace{len(made)}"
        folder = workspace / ".devcontainer"
        folder.mkdir(parents=True)
        if dockerfile:
            settings = {"build": {"dockerfile": "Dockerfile"}, **settings}
            (folder / "Dockerfile").write_text(dockerfile)
        for name, script in (features or {}).items():
            (folder / name).mkdir()
            about = {"id": name, "version": "1.0.0", "name": name}
            (folder / name / "devcontainer-feature.json").write_text(json.dumps(about))
            (folder / name / "install.sh").write_text(script)
            settings.setdefault("features", {})[f"./{name}"] = {}
        (folder / "devcontainer.json").write_text(json.dumps(settings))
        give(workspace, 1000)
        made.append(Devcontainer(devcontainer_cli, docker, workspace, environment or {}))
        return made[-1]

    try:
        yield one
    finally:
        for here in made:
            remove(docker, here.workspace)


def written(here: Devcontainer) -> set[str]:
    """Return the ids of the daemons that the commands of the devcontainer's life have spoken with."""
    return {(here.workspace / name).read_text().strip() for name in ("created", "updated", "after")}


def daemon(here: Devcontainer) -> str:
    """Return the id of the daemon inside, which is not the one outside."""
    found = here.inside("docker", "info", "--format", "{{.ID}}")
    assert found != here.docker("info", "--format", "{{.ID}}")
    return found


@pytest.mark.parametrize("override", [None, True, False])
def test_the_image_alone(make: Maker, dind: Built, override: bool | None) -> None:
    settings = {} if override is None else {"overrideCommand": override}
    here = make({"image": dind.reference, **COMMANDS, **settings})
    here.up()
    assert written(here) == {daemon(here)}


def test_a_rebuild_keeps_the_volume_and_two_at_once_have_their_own(make: Maker, dind: Built) -> None:
    both = [make({"image": dind.reference, **COMMANDS}) for _ in range(2)]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda here: here.up(), both))
    before = [daemon(here) for here in both]
    assert len(set(before)) == 2
    both[0].inside("docker", "volume", "create", "kept")
    both[0].up("--remove-existing-container")
    assert both[0].inside("docker", "volume", "ls", "--quiet") == "kept"
    assert both[1].inside("docker", "volume", "ls", "--quiet") == ""


def test_a_features_user_may_use_docker(make: Maker, dind: Built) -> None:
    settings = {"image": dind.reference, "remoteUser": "vscode", **COMMANDS}
    here = make(settings, features={"common-utils": COMMON_UTILS})
    assert here.up()["remoteUser"] == "vscode"
    assert "docker" in here.inside("id", "--groups", "--name").split()
    assert written(here) == {daemon(here)}
    assert (here.workspace / "created").stat().st_uid == 1000


def test_the_users_id_follows_the_hosts(make: Maker, dind: Built, tmp_path: Path) -> None:
    """updateRemoteUserUID, for a user of this host whose id is not 1000: the command line is told so."""
    (tmp_path / "uid.js").write_text("process.getuid = () => 1234; process.getgid = () => 1234;\n")
    settings = {"remoteUser": "dev", "updateRemoteUserUID": True, **COMMANDS}
    here = make(
        settings,
        dockerfile=DEV.format(image=dind.reference, sudo="", user=""),
        environment={"NODE_OPTIONS": f"--require={tmp_path}/uid.js"},
    )
    give(here.workspace, 1234)
    here.up()
    assert here.inside("id", "--user") == "1234"
    assert written(here) == {daemon(here)}
    assert (here.workspace / "created").stat().st_uid == 1234


@pytest.mark.parametrize("override", [True, False])
@pytest.mark.parametrize(("user", "settings"), [("USER dev", {}), ("", {"containerUser": "dev"})])
def test_a_container_of_a_user_who_may_use_sudo(
    make: Maker, dind: Built, user: str, settings: dict[str, str], override: bool
) -> None:
    here = make(
        {**settings, "overrideCommand": override, **COMMANDS},
        dockerfile=DEV.format(image=dind.reference, sudo=SUDO, user=user),
    )
    assert here.up()["remoteUser"] == "dev"
    assert here.inside("id", "--user", "--name") == "dev"
    assert written(here) == {daemon(here)}


def test_a_container_of_a_user_who_may_not(make: Maker, dind: Built) -> None:
    here = make({}, dockerfile=DEV.format(image=dind.reference, sudo="", user="USER dev"))
    done = here.run("up", "--mount-workspace-git-root=false")
    assert done.returncode == 1
    assert "by remoteUser, in the place of USER and containerUser" in done.stderr + done.stdout


@pytest.mark.parametrize("override", [True, False])
def test_not_together_with_a_feature_that_brings_a_daemon(make: Maker, dind: Built, override: bool) -> None:
    settings = {"image": dind.reference, "overrideCommand": override}
    here = make(settings, features={"docker-in-docker": DOCKER_IN_DOCKER})
    done = here.run("up", "--mount-workspace-git-root=false")
    assert done.returncode == 1
    assert "not both. Leave the feature out" in done.stderr + done.stdout


def test_no_daemon_beside_a_feature_that_leads_to_the_hosts(make: Maker, dind: Built, docker: Docker) -> None:
    socket = docker.environment["DOCKER_HOST"].removeprefix("unix://")
    mount = f"type=bind,source={socket},target=/var/run/docker-host.sock"
    settings = {"image": dind.reference, "mounts": [mount], **COMMANDS}
    here = make(settings, features={"docker-outside-of-docker": DOCKER_OUTSIDE})
    here.up()
    assert written(here) == {docker("info", "--format", "{{.ID}}")}
    assert here.run("exec", "pidof", "dockerd").returncode == 1
