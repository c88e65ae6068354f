"""Containers without --privileged in which a rootless daemon can run: docs/security.md names the flags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from docker.models.containers import Container
from docker.types import Mount

from dindkit.engine.discover import Engine


@dataclass(frozen=True)
class Rights:
    """What a container may do beyond an ordinary one; the defaults are the least for a rootless daemon."""

    #: Values of --security-opt that the engine takes as they are.
    security: tuple[str, ...] = ("seccomp=unconfined", "apparmor=unconfined")
    #: Is all of /proc and /sys in sight, as by systempaths=unconfined? Docker's client alone knows that word.
    system_paths: bool = True
    devices: tuple[str, ...] = ("/dev/net/tun",)

    @property
    def flags(self) -> list[str]:
        """The flags of `docker run` that say the same."""
        security = [*self.security, *(["systempaths=unconfined"] if self.system_paths else [])]
        return [
            *(f"--security-opt {one}" for one in security),
            *(f"--device {one}" for one in self.devices),
        ]


def create(
    engine: Engine,
    image: str,
    command: Sequence[str],
    rights: Rights,
    *,
    mounts: Sequence[Mount] = (),
    **options: Any,
) -> Container:
    """Make a container with these `rights`, without starting it.

    `options` are those of docker.api.container.ContainerApiMixin.create_container. Raises APIError.
    """
    api = engine.client.api
    host = api.create_host_config(
        security_opt=list(rights.security), devices=list(rights.devices), mounts=list(mounts)
    )
    if rights.system_paths:
        host |= {"MaskedPaths": [], "ReadonlyPaths": []}
    made = api.create_container(image, list(command), host_config=host, **options)
    return engine.client.containers.get(made["Id"])
