"""The proxies and DIND_* variables of this process that we pass on to every daemon that we start."""

from __future__ import annotations

import os

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
