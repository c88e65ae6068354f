"""Proxies and DIND_* variables of this process that every daemon we start gets as well."""

from __future__ import annotations

import os

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
#: Of the image's entrypoint; those about one daemon alone (its data root, its swarm) are left out.
ENTRYPOINT = (
    "DIND_DEFAULT_ADDRESS_POOLS",
    "DIND_DNS",
    "DIND_INSECURE_REGISTRIES",
    "DIND_LOG_LEVEL",
    "DIND_MTU",
    "DIND_REGISTRY_MIRRORS",
)


def settings() -> dict[str, str]:
    """Return the environment variables of this process that our daemons get as well."""
    return {name: os.environ[name] for name in PROXIES + ENTRYPOINT if name in os.environ}
