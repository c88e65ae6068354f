"""Check URLs: their origin, redirects, and whether a secret may be sent there."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urljoin, urlsplit

from requests.exceptions import InvalidURL

#: A scheme, a host in lower case, and a port: RFC 6454.
Origin = tuple[str, str, int]

_PORTS = {"http": 80, "https": 443}
_PRINTABLE = re.compile(r"[!-~]+")


def origin(url: str) -> Origin:
    """Return the origin of `url`; raises InvalidURL where it is not the URL of a web server."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:  # for a broken IPv6 address or port
        raise InvalidURL(f"{url!r} is no address") from None
    if parts.scheme not in _PORTS or not host or port == 0:
        raise InvalidURL(f"{url!r} is no address of a web server")
    if "@" in parts.netloc:
        raise InvalidURL("there is a user name in an address")
    return parts.scheme, host, port or _PORTS[parts.scheme]


def is_loopback(host: str) -> bool:
    """Say whether `host[:port]` can only be this machine."""
    bare = re.sub(r":[0-9]+$", "", host).strip("[]") if host.count(":") == 1 or "]" in host else host
    if bare.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(bare).is_loopback
    except ValueError:
        return False


def may_carry_secrets(url: str) -> bool:
    """Say whether what is sent to `url` cannot be read on the way: TLS, or this machine alone."""
    scheme, host, _ = origin(url)
    return scheme == "https" or is_loopback(host)


def follow(url: str, location: str | None) -> str:
    """Return the URL in the header `Location` of an answer to `url`: RFC 9110 §10.2.2.

    `location` is as http.client gives it, each byte a character. Raises InvalidURL where it is none.
    """
    if not location:
        raise InvalidURL("it leads elsewhere without saying where (no Location)")
    if not _PRINTABLE.fullmatch(location):
        raise InvalidURL(f"it leads to {location[:200]!r}, which is no address")
    try:
        target = urljoin(url, location)
    except ValueError:
        raise InvalidURL(f"it leads to {location[:200]!r}, which is no address") from None
    origin(target)
    return target
