"""Requests to one repository of a registry, as the OCI distribution specification 1.1 describes them."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any
from urllib.parse import urljoin, urlsplit

import requests

from dindkit.errors import DindkitError, TrustError, UnavailableError
from dindkit.registry import credentials
from dindkit.registry.auth import Authorization
from dindkit.registry.reference import Reference, is_loopback

#: Where Docker's users put the authorities of their registries: HOST/ca.crt.
CERTIFICATES = Path("/etc/docker/certs.d")

_TIMEOUT = (10, 300)  # seconds to connect, and to wait for the next bytes
_ATTEMPTS = 3
_PAUSE = 1  # seconds before the second attempt, twice that before the third
_PIECE = 1 << 20  # bytes handed to the socket at a time


class _Body:
    """A file of known size that reports how much of it has been sent."""

    def __init__(self, source: IO[bytes], size: int, advance: Callable[[float], None]) -> None:
        self._source = source
        self._size = size
        self._advance = advance

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        while piece := self._source.read(_PIECE):
            yield piece
            self._advance(len(piece))


class Repository:
    """One repository of one registry, with the right to pull from it and push to it.

    Plain HTTP is spoken only with this machine's own loopback addresses, or where `insecure` is set; it is
    used where the registry does not speak TLS. Certificates are checked against
    /etc/docker/certs.d/HOST/ca.crt where that exists, else against the file that $REQUESTS_CA_BUNDLE names,
    else against the system's authorities.
    """

    def __init__(self, reference: Reference, *, insecure: bool = False) -> None:
        self.reference = reference
        self._insecure = insecure or is_loopback(reference.host)
        self._session = requests.Session()
        self._session.headers["User-Agent"] = "dindkit"
        # requests brings a list of its own, which lacks the authorities that an administrator has added.
        self._session.verify = ssl.get_default_verify_paths().cafile or True
        # Given with each request, because a session's own counts for less than the environment.
        own = CERTIFICATES / reference.host / "ca.crt"
        self._authority = str(own) if own.is_file() else None
        hub = reference.host == credentials.HUB
        host = f"registry-1.{credentials.HUB}" if hub else reference.host
        self._base = self._connect(host)
        known = credentials.find(reference.host)
        scope = f"repository:{reference.repository}:pull,push"
        self._authorization = Authorization(self._base, scope, known)
        self._session.auth = self._authorization
        self._has_credentials = known is not None

    def has_blob(self, digest: str) -> bool:
        """Say whether the repository holds the blob."""
        return self._exists(f"blobs/{digest}")

    def put_blob(
        self,
        digest: str,
        size: int,
        opened: Callable[[], AbstractContextManager[IO[bytes]]],
        advance: Callable[[float], None] = lambda _count: None,
    ) -> None:
        """Upload a blob of `size` bytes in one piece; `advance` is told the number of bytes sent.

        A dropped connection or a passing failure of the server is tried again from the start of the blob,
        after a pause. Raises UnavailableError where that does not help.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            sent = 0

            def count(amount: float) -> None:
                nonlocal sent
                sent += int(amount)
                advance(amount)

            try:
                started = self._request("POST", "blobs/uploads/", expect=(202,))
                location = urljoin(started.url, started.headers["Location"])
                with opened() as source:
                    self._request(
                        "PUT",
                        location,
                        expect=(201,),
                        params={"digest": digest},
                        headers={"Content-Type": "application/octet-stream"},
                        data=_Body(source, size, count),
                    )
                return
            except UnavailableError:
                if attempt == _ATTEMPTS:
                    raise
                advance(-sent)
                time.sleep(_PAUSE * attempt)

    def get_manifest(self, reference: str, media_type: str) -> bytes | None:
        """Return the manifest or index under a tag or digest, or None where there is none."""
        answer = self._request(
            "GET", f"manifests/{reference}", expect=(200, 404), headers={"Accept": media_type}
        )
        return answer.content if answer.status_code == 200 else None

    def put_manifest(self, reference: str, media_type: str, body: bytes) -> requests.Response:
        """Store a manifest or index under a tag or digest."""
        return self._request(
            "PUT", f"manifests/{reference}", expect=(201,), headers={"Content-Type": media_type}, data=body
        )

    def _exists(self, path: str) -> bool:
        return self._request("HEAD", path, expect=(200, 404)).status_code == 200

    def _request(self, method: str, path: str, expect: tuple[int, ...], **options: Any) -> requests.Response:
        """Send one request, answering a challenge on the way, and hold the status to `expect`."""
        url = path if "://" in path else f"{self._base}/v2/{self.reference.repository}/{path}"
        answer = self._send(method, url, **options)
        if answer.status_code == 401 and self._authorization.answer(answer, self._send):
            if isinstance(options.get("data"), _Body):
                raise UnavailableError(f"{self.reference.host} asked for a new login amid an upload.")
            answer = self._send(method, url, **options)
        if answer.status_code not in expect:
            raise self._refusal(answer)
        return answer

    def _send(self, method: str, url: str, **options: Any) -> requests.Response:
        host = self.reference.host
        try:
            return self._session.request(method, url, timeout=_TIMEOUT, verify=self._authority, **options)
        except requests.exceptions.SSLError as error:
            raise TrustError(
                f"The TLS connection to {host} failed: {_reason(error)}.",
                f"Put its authority into {CERTIFICATES / host / 'ca.crt'}.",
            ) from error
        except requests.exceptions.Timeout as error:
            raise UnavailableError(f"{host} does not answer.", "Check the address, and try again.") from error
        except requests.exceptions.RequestException as error:
            raise UnavailableError(
                f"{host} cannot be reached: {_reason(error)}.", "Check the address, and that it is up."
            ) from error

    def _connect(self, host: str) -> str:
        """Return the registry's base URL: https, or http where that is allowed and TLS is not spoken."""
        if self._insecure:
            try:
                self._send("GET", f"https://{host}/v2/")
            except TrustError as error:
                # A certificate that cannot be trusted is not a reason to talk without one.
                if "certificate" not in error.cause.lower():
                    return f"http://{host}"
        return f"https://{host}"

    def _refusal(self, answer: requests.Response) -> DindkitError:
        host, status = self.reference.host, answer.status_code
        if status == 401 and self._authorization.concerns(answer.url):
            why = "refused the credentials" if self._has_credentials else "wants credentials"
            return DindkitError(f"{host} {why} for {self.reference.repository}.", f"Run: docker login {host}")
        if status == 403:
            return DindkitError(f"{host} does not let this user push to {self.reference.repository}.")
        said = _message(answer)
        if status == 404:
            return DindkitError(
                f"{host} knows no repository {self.reference.repository}{said}.", "Check its name."
            )
        if status == 429 or status >= 500:
            return UnavailableError(f"{host} answered {status}{said}.", "Try again later.")
        host = urlsplit(answer.url).netloc  # it may be that of a storage service
        return DindkitError(f"{host} answered {status} to {answer.request.method}{said}.")


def _message(answer: requests.Response) -> str:
    """Return the first error of the body, as the specification lays it out, as an ending for a sentence."""
    try:
        first = answer.json()["errors"][0]
        return f" ({first.get('message') or first['code']})"
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return ""


def _reason(error: BaseException) -> str:
    """Return the innermost cause of a requests error: its own text repeats addresses and class names."""
    inner: Any = error
    for _ in range(8):
        following = getattr(inner, "reason", None) or next(
            (part for part in inner.args if isinstance(part, BaseException)), None
        )
        if not isinstance(following, BaseException):
            break
        inner = following
    if isinstance(inner, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({inner.verify_message})"
    text = getattr(inner, "strerror", None) or str(inner)
    return str(text).rpartition("] ")[2].rpartition("): ")[2][:200]
