"""Answers to a registry's challenge: Basic, or a Bearer token from the server that the challenge names."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase, _basic_auth_str

from dindkit.errors import DindkitError, TrustError
from dindkit.registry.credentials import Credentials

_CHALLENGE = re.compile(r"\b(Basic|Bearer)\b(.*)", re.IGNORECASE)
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


class Authorization(AuthBase):
    """Adds the `Authorization` header that the registry asked for, and only to requests for that registry.

    Being the session's `auth` also keeps requests from answering with what ~/.netrc holds.
    """

    def __init__(self, base: str, scope: str, credentials: Credentials | None) -> None:
        self._base = urlsplit(base)
        self._scope = scope
        self._credentials = credentials
        self._header = ""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the header to `request` where that goes to the registry itself."""
        if self._header and self.concerns(request.url or ""):
            request.headers["Authorization"] = self._header
        return request

    def concerns(self, url: str) -> bool:
        """Say whether `url` is the registry's own.

        An upload's Location may lead to a storage service, which is neither to see the registry's credentials
        nor to say where they are to be sent.
        """
        address = urlsplit(url)
        return (address.scheme, address.netloc) == (self._base.scheme, self._base.netloc)

    def answer(self, refusal: requests.Response, ask: Callable[..., requests.Response]) -> bool:
        """Take the answer to the challenge in `refusal`, a response of 401, for all requests from now on.

        `ask(method, url, **options)` sends a request to the token server. Returns False where it was
        not the registry that asked, or there is nothing to answer with. Raises DindkitError where the token
        server refuses, TrustError where the credentials would cross the network in the clear.
        """
        found = _CHALLENGE.search(refusal.headers.get("WWW-Authenticate", ""))
        if found is None or not self.concerns(refusal.url):
            return False
        if found[1].lower() == "bearer":
            self._header = f"Bearer {self._token(dict(_PARAMETER.findall(found[2])), ask)}"
            return True
        if self._credentials is None or self._credentials.identity_token:
            return False
        self._header = _basic_auth_str(self._credentials.user, self._credentials.password)
        return True

    def _token(self, challenge: dict[str, str], ask: Callable[..., requests.Response]) -> str:
        realm = challenge.get("realm", "")
        if self._base.scheme == "https" and urlsplit(realm).scheme != "https":
            raise TrustError(f"{self._base.netloc} asks for credentials to be sent to {realm} unencrypted.")
        fields = {
            "scope": self._scope,
            **({"service": challenge["service"]} if "service" in challenge else {}),
        }
        credentials = self._credentials
        if credentials and credentials.identity_token:
            grant = {"grant_type": "refresh_token", "refresh_token": credentials.identity_token}
            answer = ask("POST", realm, data={**fields, **grant, "client_id": "dindkit"})
        else:
            basic = (credentials.user, credentials.password) if credentials else None
            answer = ask("GET", realm, params=fields, auth=basic)
        try:
            reply = answer.json() if answer.ok else {}
            token = reply.get("token") or reply.get("access_token")
        except (ValueError, AttributeError):
            token = None
        if not token:
            raise DindkitError(
                f"{self._base.netloc} refused the credentials ({answer.status_code} from its token server).",
                f"Run: docker login {self._base.netloc}",
            )
        return str(token)
