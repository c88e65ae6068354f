"""Authentication: answer a registry's challenge with Basic, or with a Bearer token from its token server."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Protocol
from urllib.parse import urlencode, urlsplit

from requests.exceptions import InvalidURL

from dindkit.errors import DindkitError, TrustError
from dindkit.registry.answer import Answer
from dindkit.registry.credentials import Credentials
from dindkit.web.address import is_loopback, may_carry_secrets, origin
from dindkit.web.login import basic
from dindkit.web.session import Request

_CHALLENGE = re.compile(r"\b(Basic|Bearer)\b(.*)", re.IGNORECASE)
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')
#: RFC 6750 §2.1 allows fewer characters; some registries use more.
_TOKEN = re.compile(r"[!-~]{1,65536}")


class Refusal(Protocol):
    """The parts of a 401 response that matter here."""

    @property
    def url(self) -> str:
        """The URL that it came from."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Its headers."""


class Authorization:
    """Holds the `Authorization` header for one registry, and gives it for requests to that registry alone.

    `credentials` go to the registry itself, or to the token server that it names: over TLS, or within this
    machine to a server of the same host.
    """

    def __init__(self, base: str, scope: str, credentials: Credentials | None) -> None:
        self._base = base
        self._origin = origin(base)
        self._name = urlsplit(base).netloc
        self._scope = scope
        self._credentials = credentials
        self._header = ""

    def header(self, url: str) -> str:
        """Return the header's value for a request to `url`: empty where that is not the registry itself."""
        return self._header if self._header and self.concerns(url) else ""

    def concerns(self, url: str) -> bool:
        """Say whether `url` is the registry's own.

        An upload may lead to a storage service. It must not get the registry's credentials, and its
        challenges are ignored.
        """
        return origin(url) == self._origin

    def answer(self, refusal: Refusal, ask: Callable[[Request], Answer]) -> bool:
        """Take the answer to the challenge in `refusal`, a response of 401, for all requests from now on.

        `ask` sends a request to the token server. Returns False where it was not the registry that asked, or
        there is nothing to answer with. Raises DindkitError where the token server refuses, TrustError where
        the credentials would cross the network in the clear or reach another host of this machine's.
        """
        found = _CHALLENGE.search(refusal.headers.get("WWW-Authenticate") or "")
        if found is None or not self.concerns(refusal.url):
            return False
        if found[1].lower() == "bearer":
            self._header = f"Bearer {self._token(dict(_PARAMETER.findall(found[2])), ask)}"
            return True
        if self._credentials is None or self._credentials.identity_token:
            return False
        if not may_carry_secrets(self._base):
            raise TrustError(f"{self._name} asks for credentials to be sent to {self._base} unencrypted.")
        self._header = basic(self._credentials.user, self._credentials.password)
        return True

    def _token(self, challenge: dict[str, str], ask: Callable[[Request], Answer]) -> str:
        realm = challenge.get("realm", "")
        self._check_realm(realm)
        fields = {
            "scope": self._scope,
            **({"service": challenge["service"]} if "service" in challenge else {}),
        }
        answer = ask(self._request(realm, fields))
        if 300 <= answer.status < 400:
            raise TrustError(f"The token server of {self._name} asks for credentials to be sent elsewhere.")
        reply = answer.json() if answer.ok else {}
        token = (reply.get("token") or reply.get("access_token")) if isinstance(reply, dict) else None
        if not token:
            raise DindkitError(
                f"{self._name} refused the credentials ({answer.status} from its token server).",
                f"Run: docker login {self._name}",
            )
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise DindkitError(f"The token server of {self._name} gave a token that no header can hold.")
        return token

    def _request(self, realm: str, fields: dict[str, str]) -> Request:
        known = self._credentials
        if known and known.identity_token:
            # No redirects: they would send the token on, in the body.
            grant = {"grant_type": "refresh_token", "refresh_token": known.identity_token}
            form = {**fields, **grant, "client_id": "dindkit"}
            return Request("POST", realm, data=lambda: form, redirects=0)
        login = basic(known.user, known.password) if known else ""
        url = f"{realm}{'&' if '?' in realm else '?'}{urlencode(fields)}"
        return Request("GET", url, login=lambda there: login if origin(there) == origin(realm) else "")

    def _check_realm(self, realm: str) -> None:
        """Check the token server's URL by the same rules as the registry's."""
        try:
            scheme, host, _ = origin(realm)
        except InvalidURL:
            raise DindkitError(f"{self._name} names no token server, but {realm[:200]!r}.") from None
        if scheme == "https" or (self._credentials is None and self._origin[0] == "http"):
            return
        if not is_loopback(host) or self._origin[0] == "https":
            raise TrustError(f"{self._name} asks for credentials to be sent to {realm} unencrypted.")
        if host != self._origin[1]:
            raise TrustError(f"{self._name} asks for its credentials to be sent to {realm}, another host.")
