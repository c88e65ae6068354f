"""Bind mounts, from both sides: `docker run -v` names a folder of the daemon, never of the client."""

from __future__ import annotations

from dindkit.errors import EngineError
from dindkit.smoke.context import Node

WRITE = "ls -A /seen && echo nested >/seen/from-nested"


def check(client: Node, image: str, alone: str, shared: str) -> None:
    """Mount two folders of `client` into containers of `image`, which its daemon must have.

    Both must be empty. `alone` is a path that the daemon does not share with the client: the container must
    find it empty, and the client must not see what the container writes there. `shared` is one that both have
    at the same path. Raises EngineError where either is otherwise.
    """
    for kind, folder, *expected in (
        ("unshared", alone, "", "from-client"),
        ("shared", shared, "from-client", "from-client\nfrom-nested"),
    ):
        client.call("mkdir", "-p", folder)
        client.call("touch", f"{folder}/from-client")
        seen = client.call("docker", "run", "--rm", "-v", f"{folder}:/seen", image, "sh", "-c", WRITE)
        back = client.call("ls", "-A", folder)
        if [seen, back] != expected:
            raise EngineError(
                f"The {kind} folder {folder}: the container saw [{seen}], and the client then saw [{back}]."
            )
