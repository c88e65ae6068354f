"""Find the Docker engine that this user would reach, and say where it was found."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import docker
import requests
from docker.context import Context, ContextAPI
from docker.errors import DockerException
from docker.tls import TLSConfig

from dindkit.engine import sockets, virtual
from dindkit.errors import EngineError
from dindkit.project import Project

#: Seconds within which a running engine answers a ping; one reached through ssh takes longer.
PING = 3.0
PING_SSH = 20.0
#: Seconds within which an engine answers one request, loading an image included.
REQUEST_TIMEOUT = 600
#: Hosts that are this machine.
LOOPBACK = ("127.0.0.1", "::1", "localhost")
#: The beginning of `found_by` for the embedded engine.
EMBEDDED = "the embedded engine"
#: `found_by` for the engine of a virtual machine that lasts.
VIRTUAL = "the virtual machine's engine"


@dataclass(frozen=True)
class Engine:
    """An engine that has answered: the client to talk to it, its address, and how it was found."""

    client: docker.DockerClient
    host: str
    found_by: str

    @property
    def own_socket(self) -> str:
        """The path of its socket on the machine of the engine, for a bind mount."""
        if self.found_by.startswith(EMBEDDED) or not self.host.startswith("unix://"):
            return "/var/run/docker.sock"
        return self.host.removeprefix("unix://")

    @property
    def is_podman(self) -> bool:
        """Whether Podman answers through Docker's interface."""
        return any(part["Name"].startswith("Podman") for part in self.client.version().get("Components", []))


class _Api(docker.APIClient):
    """Docker's client, without logins: through requests it would send an engine what ~/.netrc holds."""

    def prepare_request(self, request: requests.Request) -> requests.PreparedRequest:
        request.auth = request.auth or _anonymous
        return super().prepare_request(request)

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        """Let the environment decide nothing about an engine on this machine, or one of its own authority.

        Through requests, REQUESTS_CA_BUNDLE would take the place of the engine's certificate authority, and
        a proxy would be asked for the loopback address, which Docker's own client never does.
        """
        verify = self.verify if verify is None else verify
        settings = super().merge_environment_settings(url, proxies, stream, verify, cert)
        if urlsplit(str(url)).hostname in LOOPBACK:
            settings["proxies"] = dict(self.proxies)
        return settings

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        del response
        prepared_request.headers.pop("Authorization", None)


def _anonymous(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


class _Client(docker.DockerClient):
    def __init__(self, **options: Any) -> None:
        self.api = _Api(**options)


def connect(host: str, found_by: str, tls: TLSConfig | None = None, *, patience: float = PING) -> Engine:
    """Return the engine at `host` (a URL as in DOCKER_HOST); raises EngineError where none answers.

    It gets `patience` seconds to do so.
    """
    over_ssh = host.startswith("ssh://")
    try:
        client = _Client(
            base_url=host,
            version="auto",
            tls=tls or False,
            timeout=PING_SSH if over_ssh else patience,  # requests takes fractions, too
            use_ssh_client=over_ssh,
        )
    except (DockerException, OSError, ValueError) as error:  # the last where the address is none
        raise EngineError(sockets.no_answer(found_by, host, _reason(error))) from error
    client.api.timeout = REQUEST_TIMEOUT
    return Engine(client, host, found_by)


def _reason(error: BaseException) -> str:
    """Return the operating system's message from inside the exceptions that wrap it."""
    inner: Any = error
    while inner is not None:
        if isinstance(inner, OSError) and inner.strerror:
            return inner.strerror
        if isinstance(inner, TimeoutError | requests.Timeout):
            return "it does not answer in time"
        inner = next((arg for arg in inner.args if isinstance(arg, BaseException)), inner.__context__)
    return str(error)


def find(project: Project) -> Engine | None:
    """Return the first engine that answers, or None.

    The order is: DOCKER_HOST; DOCKER_CONTEXT, or the current context of Docker's own configuration; the usual
    sockets of Docker and Podman; the embedded engine; the virtual machine's. Raises EngineError where
    DOCKER_HOST or DOCKER_CONTEXT is set and nothing answers there: any other engine would be a surprise.
    """
    if os.environ.get("DOCKER_HOST"):
        return _from_environment(os.environ["DOCKER_HOST"])
    if os.environ.get("DOCKER_CONTEXT"):
        return _from_context(os.environ["DOCKER_CONTEXT"], "DOCKER_CONTEXT")
    current = _current_context()
    if current is not None and current.Name != "default":
        try:
            return _from_context(current.Name, "the current Docker context")
        except EngineError:
            pass  # the context of a desktop engine stays selected while it is off
    for path, found_by in (*sockets.usual(), (sockets.embedded(project), EMBEDDED)):
        if path.exists():
            try:
                return connect(f"unix://{path}", found_by)
            except EngineError:
                continue
    return _virtual(project)


def _current_context() -> Context | None:
    """Return the selected Docker context. Raises EngineError where Docker's configuration cannot be read."""
    try:
        found: Context | None = ContextAPI.get_current_context()
    except (DockerException, OSError, ValueError, TypeError, AttributeError, LookupError) as error:
        raise EngineError(
            "Docker's configuration selects a context that cannot be read.",
            "See: docker context ls, or ~/.docker/config.json",
        ) from error
    return found


def _virtual(project: Project) -> Engine | None:
    """Return the engine of the virtual machine that `engine.start --vm` has started, if it answers."""
    record = virtual.read(project)
    if record is None:
        return None
    with contextlib.suppress(EngineError):
        folder = virtual.certificates(project)
        return connect(record.host, VIRTUAL, tls_of(folder), patience=PING_SSH)
    return None


def named(name: str, found_by: str) -> Engine:
    """Return the engine of the Docker context `name`, or of the address `name` (`unix:///…`, `ssh://…`).

    Raises EngineError where there is no such context, or nothing answers.
    """
    return connect(name, found_by) if "://" in name else _from_context(name, found_by)


def tls_of(folder: Path) -> TLSConfig:
    """Return the settings of a client with the certificates in `folder`, as in DOCKER_CERT_PATH.

    Raises EngineError where they are not there.
    """
    try:
        return TLSConfig(
            client_cert=(str(folder / "cert.pem"), str(folder / "key.pem")),
            ca_cert=str(folder / "ca.pem"),
            verify=True,
        )
    except DockerException as error:
        raise EngineError(
            f"{folder} does not have a client's ca.pem, cert.pem and key.pem.",
            "Copy them from the daemon's /certs/client.",
        ) from error


def _from_environment(host: str) -> Engine:
    tls = None
    if os.environ.get("DOCKER_TLS_VERIFY"):
        folder = Path(os.environ.get("DOCKER_CERT_PATH") or Path.home() / ".docker")
        tls = tls_of(folder)
    try:
        return connect(host, "DOCKER_HOST", tls)
    except EngineError as error:
        raise EngineError(error.cause, sockets.START_OR_UNSET) from error


def _from_context(name: str, found_by: str) -> Engine:
    context = ContextAPI.get_context(name)
    if context is None:
        raise EngineError(f"{found_by}: there is no context {name}.", "See: docker context ls")
    # The library writes unix:// as the adapter of requests is called.
    host = (context.Host or "").removeprefix("http+")
    return connect(host, f"{found_by} {name}", context.TLSConfig)
