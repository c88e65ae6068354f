"""Which URLs may be handed to git."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from cloner.errors import BadUrlError

#: git can do more (`file:` reads the container's own files, `ext::` runs a command): all else is refused.
SCHEMES = ("https", "http")
LONGEST = 2000


def check(url: str, hosts: Collection[str] = ()) -> str:
    """Return `url` as it is where it is safe to clone; `hosts`, if any are given, are the only ones allowed.

    Raises BadUrlError with the reason.
    """
    if not url:
        raise BadUrlError("the field `url` is missing")
    if len(url) > LONGEST:
        raise BadUrlError(f"the URL is longer than {LONGEST} characters")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise BadUrlError("the URL has a space or a character that is not printable ASCII")
    try:
        parts = urlsplit(url)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        port_is_valid = False
    if not port_is_valid:
        raise BadUrlError("the URL has a host or port that is none")
    # A text that begins with `-`, which git would read as an option, has no scheme and ends here too.
    if parts.scheme not in SCHEMES:
        raise BadUrlError(f"the URL does not begin with {' or '.join(f'{scheme}://' for scheme in SCHEMES)}")
    if not parts.hostname:
        raise BadUrlError("the URL names no host")
    if parts.username is not None or parts.password is not None:
        raise BadUrlError("the URL has a user name or password in it: this service clones what is public")
    if hosts and parts.hostname not in hosts:
        raise BadUrlError(f"the host {parts.hostname} is not one that this service clones from")
    return url
