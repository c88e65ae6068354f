"""Names and passwords for servers, as values of the header `Authorization`."""

from __future__ import annotations

import base64
import netrc
import os
from pathlib import Path

from dindkit.web.address import may_carry_secrets, origin


def basic(user: str, password: str) -> str:
    """Return the header's value for a name and a password: RFC 7617, in UTF-8."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode("utf-8", "surrogateescape")).decode()


def from_netrc(url: str) -> str:
    """Return the login that ~/.netrc, or the file in $NETRC, has for the host of `url`; else an empty string.

    Its `default` entry is not used: any server would get it. Over plain HTTP only this machine gets a login.
    """
    host = origin(url)[1]
    if not may_carry_secrets(url) or host == "default":
        return ""
    try:
        path = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
        found = netrc.netrc(path).hosts.get(host)
    except (OSError, ValueError, RuntimeError, netrc.NetrcParseError):
        return ""  # as other programs do with a broken file
    return basic(found[0] or found[1] or "", found[2] or "") if found else ""
