"""Descriptors and JSON whose bytes depend on nothing but their content."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def digest_of(body: bytes) -> str:
    """Return `sha256:…` of `body`."""
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def canonical(value: Any) -> bytes:
    """Render JSON with sorted keys and no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def descriptor(media_type: str, body: bytes) -> dict[str, Any]:
    """Return the OCI descriptor of `body`."""
    return {"mediaType": media_type, "digest": digest_of(body), "size": len(body)}
