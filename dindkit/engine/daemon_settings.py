"""What every daemon that we start is given: the proxies and DIND_* variables of this process."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
#: The entrypoint's variables that are passed on; those for one daemon (data root, swarm) are not.
ENTRYPOINT = (
    "DIND_DEFAULT_ADDRESS_POOLS",
    "DIND_DNS",
    "DIND_INSECURE_REGISTRIES",
    "DIND_LOG_LEVEL",
    "DIND_MTU",
    "DIND_REGISTRY_MIRRORS",
)


def settings() -> dict[str, str]:
    """Return the environment variables of this process to pass on to our daemons."""
    return {name: os.environ[name] for name in PROXIES + ENTRYPOINT if name in os.environ}


def entrypoint(
    config: Mapping[str, Any], environment: Mapping[str, str], before: Sequence[str] = ()
) -> list[str]:
    """Return the command that runs an image's entrypoint in a machine that is made of its tree.

    It has the variables of `config`, the image's configuration, those of `settings`, and `environment`, and
    no others. It is run by the words `before`.
    """
    variables = [f"{name}={value}" for name, value in {**settings(), **environment}.items()]
    return ["env", "-i", *config.get("Env", []), *variables, *before, *config.get("Entrypoint", [])]
