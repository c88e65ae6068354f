"""Whose password goes where, on the way to a mirror: real servers, and a home with a ~/.netrc in it."""

from __future__ import annotations

import contextlib
import socket
import threading
from base64 import b64encode
from pathlib import Path

import pytest

from dindkit.errors import RecipeError
from dindkit.packages import keys, transfer
from dindkit.packages.transfer import TransferError
from tests.packages.conftest import HURRY, ServedArchive
from tests.support.archive import Pin, make_project
from tests.support.raw_server import Heard, RawServer, always, answer, certificate, give_names, serve_raw

BODY = b"content"
FILE = answer("200 OK", BODY)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    for name in ("NETRC", "http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return folder


def netrc(home: Path, *lines: str) -> None:
    path = home / ".netrc"
    path.write_text("".join(f"{line}\n" for line in lines))
    path.chmod(0o600)


def entry(host: str) -> str:
    return f"machine {host} login reviewer password {host}-secret"


def header(host: str) -> str:
    return "Basic " + b64encode(f"reviewer:{host}-secret".encode()).decode()


def get(url: str) -> bytes:
    with transfer.session(1) as client:
        return b"".join(transfer.stream(client, url, 1000, HURRY))


DEFAULT = "default login reviewer password everybody-secret"


def test_a_default_entry_is_for_nobody(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc(home, DEFAULT)
    give_names(monkeypatch, "mirror.test", "default")
    with serve_raw(always(FILE)) as server:
        for name in ("127.0.0.1", "localhost", "mirror.test", "default"):
            assert get(server.named(name)) == BODY
        assert server.secrets() == [set()] * 4


def test_an_entry_goes_to_its_own_host_within_this_machine(home: Path) -> None:
    netrc(home, entry("127.0.0.1"), DEFAULT)
    with serve_raw(always(FILE)) as own, serve_raw(always(FILE), "127.0.0.2") as other:
        assert get(own.url) == get(other.url) == BODY
        assert [heard.headers.get("authorization") for heard in own.heard] == [header("127.0.0.1")]
        assert other.secrets() == [set()]


def test_an_entry_goes_over_tls_and_not_without(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc(home, entry("mirror.test"))
    give_names(monkeypatch, "mirror.test")
    context, authority = certificate(tmp_path / "tls", "mirror.test")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority))
    with serve_raw(always(FILE), tls=context) as secret, serve_raw(always(FILE)) as clear:
        assert get(secret.named("mirror.test")) == get(clear.named("mirror.test")) == BODY
        assert [heard.headers.get("authorization") for heard in secret.heard] == [header("mirror.test")]
        assert clear.secrets() == [set()]
        secret.heard.clear()
        leads = always(answer("302 Found", Location=clear.named("mirror.test")))
        with serve_raw(leads, tls=context) as leading:
            assert get(leading.named("mirror.test")) == BODY
            assert leading.secrets() == [{"authorization"}]
            assert clear.secrets() == [set(), set()]


def test_a_password_with_letters_of_any_script(home: Path) -> None:
    netrc(home, "machine 127.0.0.1 login reviewer password пароль€")
    with serve_raw(always(FILE)) as server:
        assert get(server.url) == BODY
        expected = "Basic " + b64encode("reviewer:пароль€".encode()).decode()
        assert server.heard[0].headers["authorization"] == expected


def test_a_netrc_that_cannot_be_read_is_none(home: Path) -> None:
    with serve_raw(always(FILE)) as server:
        (home / ".netrc").write_bytes(b"machine \xff\n!")
        assert get(server.url) == BODY
        (home / ".netrc").unlink()
        (home / ".netrc").mkdir()
        assert get(server.url) == BODY
        assert server.secrets() == [set(), set()]


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Same", "308 Same"])
def test_a_redirect_to_another_server_carries_nothing(home: Path, status: str) -> None:
    """Not even what that server could be told: it is the first that leads there, and may be anyone."""
    netrc(home, *(entry(f"127.0.0.{number}") for number in (1, 2)), DEFAULT)
    with (
        serve_raw(always(FILE), "127.0.0.2") as host,
        serve_raw(always(FILE)) as port,
    ):
        for target in (host, port):
            leads = always(answer(status, Location=f"{target.url}/there", Set_Cookie="session=1"))
            with serve_raw(leads) as first:
                assert get(first.url) == BODY
                assert first.secrets() == [{"authorization"}]
                assert target.secrets() == [set()]


def test_a_redirect_within_a_server_keeps_the_password(home: Path) -> None:
    netrc(home, entry("127.0.0.1"))

    def reply(heard: Heard, _connection: socket.socket, _over: threading.Event) -> bytes:
        leads = answer("302 Found", Location="/other", Set_Cookie="session=1")
        return FILE if "/other" in heard.line else leads

    with serve_raw(reply) as server:
        assert get(f"{server.url}/file") == BODY
        assert server.secrets() == [{"authorization"}] * 2


@pytest.mark.parametrize("location", ["http://127.0.0.1:{port}@{other}/", "http://me:secret@{other}/"])
def test_a_redirect_that_names_a_user_is_followed_nowhere(home: Path, location: str) -> None:
    netrc(home, entry("127.0.0.1"))
    with serve_raw(always(FILE), "127.0.0.2") as other:

        def reply(_heard: Heard, connection: socket.socket, _over: threading.Event) -> bytes:
            port = connection.getsockname()[1]
            return answer("302 Found", Location=location.format(port=port, other=other.netloc))

        with serve_raw(reply) as first, pytest.raises(TransferError, match="user name in an address"):
            get(first.url)
        assert not other.heard


def _proxy(target: RawServer) -> bytes:
    return answer("302 Found", Location=f"{target.url}/direct")


def test_the_password_of_a_proxy_goes_to_the_proxy_only(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc(home, DEFAULT, entry("mirror.test"))
    with serve_raw(always(FILE), "127.0.0.2") as direct, serve_raw(always(_proxy(direct))) as proxy:
        monkeypatch.setenv("http_proxy", f"http://user:proxy-secret@{proxy.netloc}")
        monkeypatch.setenv("no_proxy", "127.0.0.2")
        assert get("http://mirror.test/file") == BODY
        assert [heard.line for heard in proxy.heard] == ["GET http://mirror.test/file HTTP/1.1"]
        assert proxy.secrets() == [{"proxy-authorization"}]
        assert [heard.line for heard in direct.heard] == ["GET /direct HTTP/1.1"]
        assert direct.secrets() == [set()]


def test_a_password_for_this_machine_goes_to_no_proxy(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc(home, entry("127.0.0.1"))
    with serve_raw(always(FILE)) as own, serve_raw(always(FILE), "127.0.0.2") as proxy:
        monkeypatch.setenv("http_proxy", f"http://{proxy.netloc}")
        assert get(own.url) == BODY
        assert own.secrets() == [{"authorization"}]
        assert not proxy.heard


def test_a_tunnel_keeps_the_password_of_the_proxy(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc(home, entry("mirror.test"))
    context, authority = certificate(tmp_path / "tls", "mirror.test")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority))
    with serve_raw(always(FILE), tls=context) as mirror:

        def tunnel(_heard: Heard, connection: socket.socket, _over: threading.Event) -> None:
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            with socket.create_connection((mirror.host, mirror.port)) as further:
                back = threading.Thread(target=_copy, args=(further, connection), daemon=True)
                back.start()
                _copy(connection, further)
                back.join(5)

        with serve_raw(tunnel) as proxy:
            monkeypatch.setenv("https_proxy", f"http://user:proxy-secret@{proxy.netloc}")
            assert get("https://mirror.test/file") == BODY
        assert proxy.secrets() == [{"proxy-authorization"}]
        assert mirror.secrets() == [{"authorization"}]
        assert mirror.heard[0].headers["authorization"] == header("mirror.test")


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):  # one of both has gone
        while data := source.recv(1 << 16):
            target.sendall(data)


def test_an_address_with_a_password_is_refused(served: ServedArchive, tmp_path: Path) -> None:
    project = make_project(
        tmp_path / "p", Pin("debian", served.archive, "https://me:secret@mirror.test/debian")
    )
    with pytest.raises(RecipeError, match="password in an address of debian") as caught:
        keys.load(project.keys)
    assert "secret" not in str(caught.value)
