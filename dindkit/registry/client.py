"""Requests to one repository of a registry, as the OCI distribution specification 1.1 describes them."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlencode, urlsplit

import requests
from requests.exceptions import InvalidURL

from dindkit.errors import DindkitError, TrustError, UnavailableError
from dindkit.registry import credentials
from dindkit.registry.answer import Answer
from dindkit.registry.auth import Authorization
from dindkit.registry.reference import Reference
from dindkit.web.address import follow, is_loopback, may_carry_secrets, origin
from dindkit.web.deadline import Deadline, Timeouts
from dindkit.web.session import Request, Session, ask, body

#: The folder where users of Docker put their registries' certificate authorities: HOST/ca.crt.
CERTIFICATES = Path("/etc/docker/certs.d")

#: Bytes of an answer: the specification asks registries to take manifests of four million.
_LARGEST = 4_200_000
_BLOB = "application/octet-stream"
_ATTEMPTS = 3
_PAUSE = 1  # seconds before the second attempt, twice that before the third
_PIECE = 1 << 16  # bytes handed to the socket at a time


class _DroppedError(UnavailableError):
    """The connection was closed before there was any answer, to what can be sent once more at once."""


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

    def __init__(
        self, reference: Reference, *, insecure: bool = False, timeouts: Timeouts | None = None
    ) -> None:
        self.reference = reference
        self._timeouts = timeouts or Timeouts()
        self._insecure = insecure
        self._session = Session(direct=True)
        self._session.headers["User-Agent"] = "dindkit"
        # requests has its own list, without the authorities that an administrator has added.
        self._session.verify = ssl.get_default_verify_paths().cafile or True
        # It is passed with each request: the environment would override the session's setting.
        own = CERTIFICATES / reference.host / "ca.crt"
        self._authority = str(own) if own.is_file() else None
        hub = reference.host == credentials.HUB
        host = f"registry-1.{credentials.HUB}" if hub else reference.host
        self._base = self._connect(host)
        # Without TLS others could read the credentials on the way, so they are not looked up.
        self._confidential = may_carry_secrets(self._base)
        known = credentials.find(reference.host) if self._confidential else None
        scope = f"repository:{reference.repository}:pull,push"
        self._authorization = Authorization(self._base, scope, known)
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
        after a pause. Raises UnavailableError if that fails, too.
        """
        sent = 0

        def count(amount: float) -> None:
            nonlocal sent
            sent += int(amount)
            advance(amount)

        def restart() -> None:
            nonlocal sent
            advance(-sent)
            sent = 0

        for attempt in range(1, _ATTEMPTS + 1):
            try:
                location = self._start_upload(digest)
                with ExitStack() as files:

                    def data() -> _Body:
                        restart()
                        return _Body(files.enter_context(opened()), size, count)

                    self._session.close()  # a connection of its own, which no server is just about to close
                    self._request("PUT", location, (201,), _BLOB, data)
                return
            except UnavailableError:
                if attempt == _ATTEMPTS:
                    raise
                restart()
                time.sleep(_PAUSE * attempt)

    def _start_upload(self, digest: str) -> str:
        """Return the URL to upload the blob to."""
        started = self._request("POST", "blobs/uploads/", (202,))
        try:
            location = follow(started.url, started.headers.get("Location"))
        except InvalidURL as error:
            raise DindkitError(f"{self.reference.host} starts no upload: {error}.") from None
        bare, _, _ = location.partition("#")
        return f"{bare}{'&' if '?' in bare else '?'}{urlencode({'digest': digest})}"

    def get_manifest(self, reference: str, media_type: str) -> bytes | None:
        """Return the manifest or index under a tag or digest, or None where there is none."""
        answer = self._request("GET", f"manifests/{reference}", (200, 404), media_type)
        return answer.body if answer.status == 200 else None

    def put_manifest(self, reference: str, media_type: str, body: bytes) -> Answer:
        """Store a manifest or index under a tag or digest."""
        return self._request("PUT", f"manifests/{reference}", (201,), media_type, lambda: body)

    def _exists(self, path: str) -> bool:
        return self._request("HEAD", path, (200, 404)).status == 200

    def _request(
        self,
        method: str,
        path: str,
        expect: tuple[int, ...],
        media_type: str = "",
        data: Callable[[], Any] = lambda: None,
    ) -> Answer:
        """Send one request, answer a challenge, and check that the status is one of `expect`.

        `media_type` is that of the content that is sent or asked for, `path` a whole URL or one below the
        repository's.
        """
        url = path if "://" in path else f"{self._base}/v2/{self.reference.repository}/{path}"
        headers = {"Accept" if method == "GET" else "Content-Type": media_type} if media_type else {}
        request = Request(method, url, headers, data, self._authorization.header)
        answer = self._send(request)
        if answer.status == 401 and self._authorization.answer(answer, self._send):
            if media_type == _BLOB:
                raise UnavailableError(f"{self.reference.host} asked for a new login amid an upload.")
            answer = self._send(request)
        if answer.status not in expect:
            raise self._refusal(answer)
        return answer

    def _send(self, request: Request) -> Answer:
        """Return the answer to `request`, redirects followed.

        A server may close a connection that was kept open just as it is used again, without a word: the
        request is then sent once more, over a new one (RFC 9112 §9.3.1).
        """
        try:
            return self._send_once(request)
        except _DroppedError:
            self._session.close()
            return self._send_once(request)

    def _send_once(self, request: Request) -> Answer:
        host, timeouts = self.reference.host, self._timeouts
        sends_blob = request.headers.get("Content-Type") == _BLOB
        deadline = Deadline(timeouts.stored if sends_blob else timeouts.head)
        try:
            with ask(
                self._session,
                replace(request, check=self._check_address),
                deadline,
                timeout=(timeouts.connect, timeouts.stored),
                verify=self._authority,
            ) as answer:
                deadline.begin_body(timeouts.body(_LARGEST))
                content = body(answer, _LARGEST)
                return Answer(request.method, answer.url, answer.status_code, answer.headers, content)
        except requests.exceptions.SSLError as error:
            raise TrustError(
                f"The TLS connection to {host} failed: {_reason(error)}.",
                f"Put its authority into {CERTIFICATES / host / 'ca.crt'}.",
            ) from error
        except requests.exceptions.RequestException as error:
            if deadline.failure:
                raise UnavailableError(f"{host} {deadline.failure}.", "Try again later.") from error
            if isinstance(error, requests.exceptions.Timeout):
                raise UnavailableError(
                    f"{host} does not answer.", "Check the address, and try again."
                ) from error
            if isinstance(error, requests.exceptions.ConnectionError):
                dropped = not sends_blob and isinstance(_innermost(error), ConnectionError)
                raise (_DroppedError if dropped else UnavailableError)(
                    f"{host} cannot be reached: {_reason(error)}.", "Check the address, and that it is up."
                ) from error
            raise UnavailableError(f"{host} gives no answer that can be read: {_reason(error)}.") from error

    def _check_address(self, url: str) -> None:
        """Refuse a redirect from https to http."""
        scheme, host, _ = origin(url)
        if scheme == "http" and (self._base.startswith("https") or not (self._insecure or is_loopback(host))):
            raise TrustError(f"{self.reference.host} leads to {url[:300]}, which is not encrypted.")

    def _connect(self, host: str) -> str:
        """Return the registry's base URL: https, or http where that is allowed and TLS is not spoken."""
        if self._insecure or is_loopback(host):
            try:
                self._send(Request("GET", f"https://{host}/v2/"))
            except TrustError as error:
                # Plain HTTP is no answer to an untrusted certificate.
                if "certificate" not in error.cause.lower():
                    return f"http://{host}"
        return f"https://{host}"

    def _refusal(self, answer: Answer) -> DindkitError:
        host, status = self.reference.host, answer.status
        if status == 401 and self._authorization.concerns(answer.url):
            if not self._confidential:
                return DindkitError(
                    f"{host} wants credentials, and speaks no TLS: none are sent to it.",
                    "Give it a certificate, or push without a login.",
                )
            why = "refused the credentials" if self._has_credentials else "wants credentials"
            return DindkitError(f"{host} {why} for {self.reference.repository}.", f"Run: docker login {host}")
        if status == 403:
            return DindkitError(f"{host} does not let this user push to {self.reference.repository}.")
        said = answer.message()
        if status == 404:
            return DindkitError(
                f"{host} knows no repository {self.reference.repository}{said}.", "Check its name."
            )
        if status == 429 or status >= 500:
            return UnavailableError(f"{host} answered {status}{said}.", "Try again later.")
        host = urlsplit(answer.url).netloc  # it may be a storage service
        return DindkitError(f"{host} answered {status} to {answer.method}{said}.")


def _innermost(error: BaseException) -> Any:
    inner: Any = error
    for _ in range(8):
        following = getattr(inner, "reason", None) or next(
            (part for part in inner.args if isinstance(part, BaseException)), None
        )
        if not isinstance(following, BaseException):
            break
        inner = following
    return inner


def _reason(error: BaseException) -> str:
    """Return the innermost cause of a requests error: its own text repeats addresses and class names."""
    inner = _innermost(error)
    if isinstance(inner, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({inner.verify_message})"
    text = getattr(inner, "strerror", None) or str(inner)
    return str(text).rpartition("] ")[2].rpartition("): ")[2][:200]
