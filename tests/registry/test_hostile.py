"""Registries that answer oddly, lead elsewhere, or want to be told more than they should be."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dindkit.errors import DindkitError, TrustError, UnavailableError
from dindkit.formats.oci import INDEX
from dindkit.progress import Progress
from dindkit.registry import client
from dindkit.registry.client import Repository
from dindkit.registry.publish import Image, Pushed, publish
from dindkit.registry.reference import parse
from dindkit.web.deadline import Timeouts
from tests.registry.conftest import PASSWORD, USER, log_in
from tests.support.raw_server import (
    Heard,
    RawServer,
    always,
    answer,
    certificate,
    give_names,
    serve_raw,
)

HURRY = Timeouts(connect=2.0, head=0.6, stored=1.0, grace=0.6, slowest=10_000_000)
BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

#: Writes an answer of its own, or returns one; an empty one closes the connection.
Say = Callable[[Heard, socket.socket, threading.Event], bytes | None]


@dataclass
class Script:
    """A registry that takes everything."""

    #: Other answers, by `METHOD part-of-the-path`.
    instead: dict[str, bytes | Say] = field(default_factory=dict)

    def __call__(self, heard: Heard, connection: socket.socket, over: threading.Event) -> bytes | None:
        method, path, _ = heard.line.split(" ")
        for key, said in self.instead.items():
            wanted, _, part = key.partition(" ")
            if wanted == method and part in path:
                return said if isinstance(said, bytes) else said(heard, connection, over)
        return {
            "HEAD": b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            "GET": answer("404 Not Found"),
            "POST": answer("202 Accepted", Location="/v2/upload?state=1"),
            "PUT": answer("201 Created", OCI_Subject="yes"),
        }[method]


def challenged(challenge: str, wanted: str) -> Say:
    """Take only who sends `wanted`, and send the others the challenge."""

    def say(heard: Heard, connection: socket.socket, over: threading.Event) -> bytes | None:
        if heard.headers.get("authorization") == wanted:
            return Script()(heard, connection, over)
        return answer("401 Unauthorized", WWW_Authenticate=challenge)

    return say


def bearer(realm: str) -> str:
    return f'Bearer realm="{realm}",service="s"'


TOKEN = answer("200 OK", b'{"token":"t0"}')


def send(host: str, image: Image, *, insecure: bool = False, join: bool = False) -> Pushed:
    repository = Repository(parse(f"{host}/team/dind:1"), insecure=insecure, timeouts=HURRY)
    return publish([image], repository, Progress(quiet=True), join=join)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Give a home with a ~/.netrc that would answer anybody, and no pauses."""
    monkeypatch.setattr(client, "_PAUSE", 0)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".netrc").write_text("default login everybody password known\n")
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def elsewhere() -> Iterator[RawServer]:
    """Another server of another host, which takes everything and gives tokens."""
    with serve_raw(Script({"GET /token": TOKEN, "POST /token": TOKEN}), "127.0.0.2") as server:
        yield server


# Where credentials go.


def test_netrc_is_not_for_registries(elsewhere: RawServer, image: Image) -> None:
    leads = answer("307 Same", Location=f"{elsewhere.url}/v2/upload")
    with serve_raw(Script({"PUT /v2/upload": leads, "HEAD /": leads})) as registry:
        assert send(registry.netloc, image).sent == 3
        assert {frozenset(one) for one in registry.secrets() + elsewhere.secrets()} == {frozenset()}


@pytest.mark.parametrize("name", ["127.0.0.2", "other.test"])
@pytest.mark.parametrize("token", [False, True], ids=["password", "identity token"])
def test_a_registry_of_this_machine_cannot_have_the_password_sent_elsewhere(
    name: str, token: bool, docker_config: Path, monkeypatch: pytest.MonkeyPatch, image: Image
) -> None:
    give_names(monkeypatch, "other.test")
    with serve_raw(always(TOKEN), "127.0.0.2" if name == "127.0.0.2" else "127.0.0.1") as other:
        realm = f"http://{name}:{other.port}/token"
        with serve_raw(Script({"HEAD /": challenged(bearer(realm), "Bearer t0")})) as registry:
            log_in(docker_config, registry.netloc)
            if token:
                config = {"auths": {registry.netloc: {"identitytoken": "abc"}}}
                (docker_config / "config.json").write_text(json.dumps(config))
            with pytest.raises(TrustError, match=f"asks for .*credentials to be sent to {realm}"):
                send(registry.netloc, image)
        assert not other.heard


def test_a_token_server_on_another_port_of_the_same_host(docker_config: Path, image: Image) -> None:
    with serve_raw(always(TOKEN)) as tokens:
        wanted = challenged(bearer(f"{tokens.url}/token?account=me"), "Bearer t0")
        with serve_raw(Script({"HEAD /": wanted})) as registry:
            log_in(docker_config, registry.netloc)
            assert send(registry.netloc, image).sent == 3
            assert [heard.headers["authorization"] for heard in tokens.heard] == [BASIC]
            assert BASIC not in {heard.headers.get("authorization") for heard in registry.heard}


def test_a_token_server_that_leads_elsewhere(docker_config: Path, elsewhere: RawServer, image: Image) -> None:
    """Of a question the address is followed without the password; a form, which holds a secret, is not."""
    leads = {"GET /token": answer("302 F", Location=f"{elsewhere.url}/token")}
    leads |= {"POST /token": answer("307 F", Location=f"{elsewhere.url}/token")}
    with serve_raw(Script(dict(leads))) as tokens:
        wanted = challenged(bearer(f"{tokens.url}/token"), "Bearer t0")
        with serve_raw(Script({"HEAD /": wanted})) as registry:
            log_in(docker_config, registry.netloc)
            assert send(registry.netloc, image).sent == 3
            assert elsewhere.secrets() == [set()]
            config = {"auths": {registry.netloc: {"identitytoken": "abc"}}}
            (docker_config / "config.json").write_text(json.dumps(config))
            elsewhere.heard.clear()
            with pytest.raises(TrustError, match="credentials to be sent elsewhere"):
                send(registry.netloc, image)
            assert not elsewhere.heard


@pytest.mark.parametrize("challenge", ['Basic realm="r"', bearer("http://registry.test:1/token")])
def test_without_tls_no_credentials_are_sent(
    challenge: str, docker_config: Path, monkeypatch: pytest.MonkeyPatch, image: Image
) -> None:
    give_names(monkeypatch, "registry.test")
    script = Script({"GET /token": answer("401 Unauthorized")})
    with serve_raw(script) as registry:
        host = f"registry.test:{registry.port}"
        script.instead["HEAD /"] = challenged(challenge.replace("registry.test:1", host), BASIC)
        log_in(docker_config, host)
        with pytest.raises(DindkitError, match=r"no TLS: none are sent|refused .*token server") as caught:
            send(host, image, insecure=True)
        assert PASSWORD not in str(caught.value)
        assert {frozenset(one) for one in registry.secrets()} == {frozenset()}
        script.instead.clear()
        assert send(host, image, insecure=True).sent == 3
        with pytest.raises(TrustError):
            send(host, image)
        assert {frozenset(one) for one in registry.secrets()} == {frozenset()}


def test_a_token_stays_with_its_registry(docker_config: Path, elsewhere: RawServer, image: Image) -> None:
    script = Script({"GET /token": TOKEN})
    with serve_raw(script) as registry:
        challenge = bearer(f"{registry.url}/token")
        script.instead["HEAD /"] = challenged(challenge, "Bearer t0")
        script.instead["GET /v2"] = answer("302 F", Location=f"{elsewhere.url}/v2/manifest")
        script.instead["PUT /v2"] = answer("307 F", Location=f"{elsewhere.url}/v2/put")
        log_in(docker_config, registry.netloc)
        assert send(registry.netloc, image, join=True).sent == 3
        assert {"authorization"} in registry.secrets()
        assert len(elsewhere.heard) > 4
        assert {frozenset(one) for one in elsewhere.secrets()} == {frozenset()}


def test_a_loopback_registry_is_not_asked_by_a_proxy(
    docker_config: Path, monkeypatch: pytest.MonkeyPatch, image: Image
) -> None:
    wanted = Script({"HEAD /": challenged('Basic realm="r"', BASIC)})
    with serve_raw(always(TOKEN), "127.0.0.2") as proxy, serve_raw(wanted) as registry:
        monkeypatch.setenv("http_proxy", f"http://user:secret@{proxy.netloc}")
        monkeypatch.setenv("https_proxy", f"http://user:secret@{proxy.netloc}")
        log_in(docker_config, registry.netloc)
        assert send(registry.netloc, image).sent == 3
        assert not proxy.heard
        assert {"authorization"} in registry.secrets()


@pytest.mark.parametrize("where", ["POST /v2", "HEAD /v2", "GET /token"])
def test_a_registry_with_tls_leads_nowhere_without(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, docker_config: Path, image: Image
) -> None:
    context, authority = certificate(tmp_path / "tls", "127.0.0.1")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority))
    with serve_raw(Script({"GET /token": TOKEN})) as clear:
        status = "202 Accepted" if where.startswith("POST") else "307 Same"
        script = Script({where: answer(status, Location=f"{clear.url}/token")})
        with serve_raw(script, tls=context) as registry:
            script.instead.setdefault("HEAD /v2", challenged(bearer(f"{registry.url}/token"), "Bearer t0"))
            script.instead.setdefault("GET /token", TOKEN)
            log_in(docker_config, registry.netloc)
            with pytest.raises(TrustError, match=f"leads to {clear.url}/token.*, which is not encrypted"):
                send(registry.netloc, image)
        assert not clear.heard


def test_a_password_with_letters_of_any_script(docker_config: Path, image: Image) -> None:
    wanted = "Basic " + base64.b64encode(f"{USER}:пароль€".encode()).decode()
    with serve_raw(Script({"HEAD /": challenged('Basic realm="r"', wanted)})) as registry:
        log_in(docker_config, registry.netloc, "пароль€")
        assert send(registry.netloc, image).sent == 3


# What answers may be.


def test_a_redirected_upload_is_sent_whole(elsewhere: RawServer, image: Image) -> None:
    advanced: list[float] = []
    leads = answer("307 Same", Location=f"{elsewhere.url}/v2/there?signed=1")
    with serve_raw(Script({"PUT /v2/upload": leads})) as registry:
        body = bytes(range(256)) * 1000
        repository = Repository(parse(f"{registry.netloc}/a:1"), timeouts=HURRY)
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        repository.put_blob(digest, len(body), lambda: io.BytesIO(body), advanced.append)
    assert [heard.body for heard in elsewhere.heard] == [body]
    assert sum(advanced) == len(body)


def endless(start: bytes) -> Say:
    def say(_heard: Heard, connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(start)
        while not over.is_set():
            connection.sendall(b" " * (1 << 16))

    return say


def drip(start: bytes, last: bytes) -> Say:
    def say(_heard: Heard, connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(start)
        while not over.wait(0.1):
            connection.sendall(last)

    return say


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
BARE = b"HTTP/1.1 200 OK\r\n\r\n"
DEEP = b"[" * 100_000

ODD: dict[str, tuple[str, bytes | Say, str]] = {
    "upload without Location": ("POST /", answer("202 Accepted"), "starts no upload.*no Location"),
    "upload with half a Location": ("POST /", answer("202 A", Location="http://["), "starts no upload"),
    "upload to a file": ("POST /", answer("202 A", Location="file:///etc/passwd"), "starts no upload"),
    "upload to odd bytes": ("POST /", b"HTTP/1.1 202 A\r\nLocation: /\xff\x1b\r\n\r\n", "starts no upload"),
    "upload to a user": ("POST /", answer("202 A", Location="http://me:x@127.0.0.1/"), "starts no upload"),
    "upload that leads nowhere": ("PUT /v2/upload", answer("307 S"), "no Location"),
    "upload that leads to itself": (
        "PUT /v2/upload",
        answer("308 S", Location="/v2/upload"),
        "more than 5 times",
    ),
    "upload that is found elsewhere": (
        "PUT /v2/upload",
        answer("302 F", Location="/"),
        "answered 302 to PUT",
    ),
    "head that never ends": ("HEAD /", drip(b"", b"HTTP/1.1 100 C\r\n\r\n"), "does not finish the head"),
    "body that never ends": ("GET /", drip(BARE, b" "), "arrives too slowly"),
    "body without bound": ("GET /", endless(BARE), "sends more than"),
    "error without bound": ("POST /", endless(b"HTTP/1.1 500 E\r\n\r\n"), "sends more than"),
    "chunks that are none": ("GET /", CHUNKED + b"zz\r\n\r\n", "no answer that can be read"),
    "length that is none": ("POST /", b"HTTP/1.1 202 A\r\nContent-Length: \xb2\r\n\r\n", "a length of"),
    "manifest that is no JSON": ("GET /", answer("200 OK", b"<html>"), "not an index"),
    "manifest that is no table": ("GET /", answer("200 OK", b"[1]"), "not an index"),
    "manifest that is deep": ("GET /", answer("200 OK", DEEP), "not an index"),
    "manifest of no list": ("GET /", answer("200 OK", b'{"manifests": 1}'), "not an index"),
    "manifest of numbers": ("GET /", answer("200 OK", b'{"manifests": [1]}'), "not an index"),
    "manifest without digests": ("GET /", answer("200 OK", b'{"manifests": [{}]}'), "not an index"),
    "manifest of odd platforms": (
        "GET /",
        answer("200 OK", b'{"manifests": [{"digest": "d", "platform": {"os": []}}]}'),
        "not an index",
    ),
    "error that is deep": ("POST /", answer("400 B", DEEP), "answered 400 to POST"),
    "error of numbers": ("POST /", answer("400 B", b'{"errors": [1]}'), "answered 400 to POST"),
    "error of lists": ("POST /", answer("400 B", b'{"errors": [{"message": [1]}]}'), "answered 400 to POST"),
    "nothing": ("POST /", b"", "cannot be reached"),
}


@pytest.mark.parametrize(("where", "said", "expected"), ODD.values(), ids=ODD)
def test_an_odd_answer_is_a_sentence(where: str, said: bytes | Say, expected: str, image: Image) -> None:
    def close(heard: Heard, connection: socket.socket, over: threading.Event) -> None:
        if isinstance(said, bytes):
            connection.sendall(said)
        else:
            said(heard, connection, over)

    started = time.monotonic()
    with serve_raw(Script({where: close})) as registry, pytest.raises(DindkitError, match=expected) as caught:
        send(registry.netloc, image, join=True)
    assert len(str(caught.value)) < 700
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    "reply",
    [
        b'{"token": "a\\r\\nX-Evil: 1"}',
        b'{"token": "a b"}',
        b'{"token": "\\u20ac"}',
        b'{"token": ["a"]}',
        b'{"token": {}, "access_token": 7}',
        b'{"token": "' + b"a" * 100_000 + b'"}',
        b"[]",
        b"null",
        b'"t0"',
        b"{",
        DEEP,
        b"\xff",
    ],
    ids=range(12),
)
def test_a_token_that_is_none(reply: bytes, docker_config: Path, image: Image) -> None:
    script = Script({"GET /token": answer("200 OK", reply)})
    with serve_raw(script) as registry:
        script.instead["HEAD /"] = challenged(bearer(f"{registry.url}/token"), "Bearer t0")
        log_in(docker_config, registry.netloc)
        expected = "gave a token that no header can hold|refused the credentials"
        with pytest.raises(DindkitError, match=expected) as caught:
            send(registry.netloc, image)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "realm",
    ["", "token", "/token", "file:///etc/passwd", "http://[", "http://127.0.0.1:x/", "https://me:x@h/"],
)
def test_a_realm_that_is_none(realm: str, docker_config: Path, image: Image) -> None:
    with serve_raw(Script({"HEAD /": challenged(bearer(realm), "Bearer t0")})) as registry:
        log_in(docker_config, registry.netloc)
        with pytest.raises(DindkitError, match="names no token server"):
            send(registry.netloc, image)


def test_a_list_of_referrers_keeps_what_others_wrote(image: Image) -> None:
    """The registry lists no referrers of itself; the list under the tag is somebody's, with odd fields."""
    before = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [{"digest": "d", "x": 1}], "more": True}
    script = Script({"GET /v2/team/dind/manifests/sha256-": answer("200 OK", json.dumps(before).encode())})
    script.instead["PUT /v2/team/dind/manifests/sha256:"] = answer("201 Created")
    with serve_raw(script) as registry:
        send(registry.netloc, image)
        (put,) = [one for one in registry.heard if one.line.startswith("PUT /v2/team/dind/manifests/sha256-")]
    after = json.loads(put.body)
    assert after["manifests"][0] == {"digest": "d", "x": 1}
    assert len(after["manifests"]) == 2
    assert after["more"] is True


def test_a_failure_that_passes_is_tried_again(image: Image) -> None:
    tries: list[Heard] = []

    def say(heard: Heard, connection: socket.socket, over: threading.Event) -> bytes | None:
        tries.append(heard)
        return answer("503 Busy") if len(tries) < 3 else Script()(heard, connection, over)

    with serve_raw(Script({"PUT /v2/upload": say})) as registry:
        assert send(registry.netloc, image).sent == 3
        assert [heard.body for heard in tries[:3]] == [tries[0].body] * 3
        tries.clear()
    busy = Script({"PUT /v2/upload": answer("503 Busy")})
    with serve_raw(busy) as registry, pytest.raises(UnavailableError):
        send(registry.netloc, image)


def test_a_connection_that_is_closed_just_as_it_is_used_again(image: Image) -> None:
    """As some load balancers do, without a word; Docker's own client sends such a request again, too."""
    used: list[socket.socket] = []

    def once(heard: Heard, connection: socket.socket, over: threading.Event) -> bytes | None:
        if connection in used:
            return None
        used.append(connection)
        return Script()(heard, connection, over)

    with serve_raw(once) as registry:
        assert send(registry.netloc, image).sent == 3
        bodies = [heard.body for heard in registry.heard if heard.line.startswith("PUT /v2/upload")]
    assert len(bodies) == len(set(bodies)) == 5  # with those of the bill of materials; none was sent twice


def test_a_registry_that_closes_every_connection(image: Image) -> None:
    with serve_raw(lambda *_: None) as registry, pytest.raises(UnavailableError, match="cannot be reached"):
        send(registry.netloc, image)
    assert len(registry.heard) == 2
