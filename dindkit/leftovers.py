"""Find and remove what killed runs have left in an engine; labels on it name the process that made it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from dindkit import owner
from dindkit.progress import Progress

if TYPE_CHECKING:
    import docker

#: The labels that name the process that made a thing, and the kind of thing.
OWNER = "dindkit.owner"
KIND = "dindkit.kind"


@dataclass
class Found:
    """Things in an engine, as `container dindkit-shell-0a1b2c`."""

    removed: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)


def labels(kind: str) -> dict[str, str]:
    """Return the labels of what this process makes for `kind`."""
    return {OWNER: str(owner.current()), KIND: kind}


def sweep(client: docker.DockerClient, progress: Progress | None = None, kind: str = "") -> Found:
    """Remove from an engine what ended processes of this machine have left of `kind` (default: of any).

    Things of other machines and of running processes stay, and so does what the engine refuses to remove.
    `progress` names each of them.
    """
    # Imported here, because few builds need an engine: the client's library takes its time.
    from docker.errors import APIError, DockerException

    found = Found()
    try:
        things = _all(client.api, [OWNER, *([f"{KIND}={kind}"] if kind else [])])
    except DockerException as error:
        if progress is not None:
            progress.warn(f"What killed runs have left in the engine cannot be looked for: {error}.")
        return found
    for what, labelled, remove in things:
        maker = owner.parse(labelled[OWNER])
        if maker is not None and owner.is_abandoned(maker):
            with contextlib.suppress(APIError):  # another process removes or uses it
                remove()
                found.removed.append(what)
                continue
        found.kept.append(what)
    if progress is not None and found.removed:
        progress.note(f"removed what a killed run had left: {', '.join(found.removed)}")
    return found


def _all(api: Any, wanted: list[str]) -> list[tuple[str, dict[str, str], Callable[[], None]]]:
    """Return the name and labels of each thing with the labels `wanted`, and a function that removes it.

    Containers come first: they use the networks, volumes and images.
    """
    filters = {"label": wanted}
    containers, networks = api.containers(all=True, filters=filters), api.networks(filters=filters)
    volumes = api.volumes(filters=filters)["Volumes"] or []
    images = api.images(filters=filters)
    return [
        *(
            (
                f"container {(one['Names'] or [one['Id'][:12]])[0].lstrip('/')}",
                one["Labels"],
                partial(_end, api, one["Id"]),
            )
            for one in containers
        ),
        *(
            (f"network {one['Name']}", one["Labels"], partial(api.remove_network, one["Id"]))
            for one in networks
        ),
        *(
            (f"volume {one['Name']}", one["Labels"], partial(api.remove_volume, one["Name"], force=True))
            for one in volumes
        ),
        *(
            (f"image {one['Id'][7:19]}", one["Labels"], partial(api.remove_image, one["Id"], force=True))
            for one in images
        ),
    ]


def _end(api: Any, container: str) -> None:
    from docker.errors import APIError

    with contextlib.suppress(APIError):
        api.kill(container)  # Podman's forced removal waits for the first process, which ignores SIGTERM
    api.remove_container(container, force=True, v=True)
