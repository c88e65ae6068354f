"""Answers that never end, or that are none: a sentence in time, and the next address is asked."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from dindkit.packages import transfer
from dindkit.packages.lock import Row
from dindkit.packages.transfer import TransferError
from tests.packages.conftest import HURRY, ServedArchive
from tests.support.archive import Pin, make_project
from tests.support.raw_server import Heard, Reply, always, answer, serve_raw

BODY = b"content"
OK = b"HTTP/1.1 200 OK\r\n"

#: Seconds within which each of these must be over: far less than what the server would take.
PROMPT = 10.0


@pytest.fixture(autouse=True)
def prompt() -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < PROMPT


def get(url: str, *, size: int = len(BODY), exact: bool = True, **changes: float) -> bytes:
    with transfer.session(1) as client:
        hurry = replace(HURRY, **changes)  # type: ignore[arg-type]
        return b"".join(transfer.stream(client, url, size, hurry, exact))


def dripping(*pieces: bytes, every: float = 0.1, last: bytes | None = None) -> Reply:
    """Send the pieces one after the other; then `last` again and again, if there is one."""

    def reply(_heard: Heard, connection: socket.socket, over: threading.Event) -> None:
        for piece in pieces:
            connection.sendall(piece)
            over.wait(every)
        while last and not over.wait(every):
            connection.sendall(last)

    return reply


def letters(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.mark.parametrize(
    "reply",
    [
        dripping(last=CONTINUE),
        dripping(every=0.0, last=CONTINUE),
        dripping(*letters(OK + b"Content-Length: 7\r\n"), last=b"X"),
        dripping(OK, last=b"X-More: 1\r\n"),
        dripping(last=b"H"),
    ],
    ids=["continue", "continue in a flood", "letters", "headers", "status"],
)
def test_a_head_that_never_ends(reply: Reply) -> None:
    with serve_raw(reply) as server, pytest.raises(TransferError) as caught:
        get(server.url)
    assert caught.value.passing
    expected = {
        f"{server.url} does not finish the head of its answer within 1 s",
        f"{server.url} cannot be read (got more than 100 headers)",
    }
    assert caught.value.reason in expected


@pytest.mark.parametrize(
    "reply",
    [
        dripping(OK + b"Content-Length: 7\r\n\r\n", *letters(BODY), every=0.4),
        dripping(OK + b"Transfer-Encoding: chunked\r\n\r\n", last=b"0"),
        dripping(OK + b"Transfer-Encoding: chunked\r\n\r\n7;", last=b"x"),
        dripping(OK + b"Transfer-Encoding: chunked\r\n\r\n7\r\ncontent\r\n0\r\n", last=b"X: y\r\n"),
        dripping(OK + b"\r\n", *letters(BODY), every=0.4),
    ],
    ids=["body", "size of a chunk", "extension of a chunk", "trailer", "no length"],
)
def test_a_body_that_never_ends(reply: Reply) -> None:
    with serve_raw(reply) as server, pytest.raises(TransferError) as caught:
        get(server.url, silence=5.0)  # longer than a loaded machine pauses
    assert caught.value.reason == f"{server.url} arrives too slowly"
    assert caught.value.passing


def test_a_slow_line_lives() -> None:
    """Slower than any of the silences and heads, but within what its size allows."""
    body = bytes(100)
    pieces = [OK, b"Content-Length: 100\r\n\r\n", *(body[at : at + 10] for at in range(0, 100, 10))]
    with serve_raw(dripping(*pieces, every=0.2)) as server:
        assert get(server.url, size=100, slowest=50, grace=2.0, silence=5.0) == body
        with pytest.raises(TransferError, match="too slowly"):
            get(server.url, size=100, slowest=500, silence=5.0)


def test_what_a_transfer_may_take_follows_from_the_announced_size() -> None:
    """The bound of an InRelease is far above its size."""
    pieces = [OK, b"Content-Length: 100\r\n\r\n", *letters(bytes(100))]
    with serve_raw(dripping(*pieces, every=0.1)) as server, pytest.raises(TransferError, match="too slowly"):
        get(server.url, size=1_000_000, exact=False, slowest=500, silence=5.0)


def test_the_real_timeouts_are_those_of_slow_lines() -> None:
    real = transfer.RetryPolicy()
    assert (real.head, real.slowest, real.grace) == (30.0, 50_000, 60.0)


def headed(*lines: bytes, body: bytes = BODY) -> bytes:
    return b"\r\n".join([b"HTTP/1.1 200 OK", *lines, b"", b""]) + body


def chunked(body: bytes) -> bytes:
    return headed(b"Transfer-Encoding: chunked", body=body)


#: Answers, each with a part of what is said of it.
MALFORMED = {
    "length: superscript": (headed("Content-Length: ²".encode()), "announces a length of"),
    "length: latin-1 superscript": (headed(b"Content-Length: \xb2"), "announces a length of '²'"),
    "length: arabic": (
        headed("Content-Length: \N{ARABIC-INDIC DIGIT SEVEN}".encode()),
        "announces a length of",
    ),
    "length: negative": (headed(b"Content-Length: -7"), "announces a length of '-7'"),
    "length: plus": (headed(b"Content-Length: +7"), "announces a length of '+7'"),
    "length: underscore": (headed(b"Content-Length: 0_7"), "announces a length of '0_7'"),
    "length: empty": (headed(b"Content-Length:"), "announces a length of ''"),
    "length: hex": (headed(b"Content-Length: 0x7"), "announces a length of '0x7'"),
    "length: huge": (headed(b"Content-Length: " + b"9" * 30), "announces a length of '999"),
    "length: enormous": (headed(b"Content-Length: " + b"9" * 5000), "announces a length of '999"),
    "length: large": (headed(b"Content-Length: 99999999999"), "announces 99999999999 bytes instead of 7"),
    "length: two": (headed(b"Content-Length: 7", b"Content-Length: 8"), "7, 8"),
    "length: list": (headed(b"Content-Length: 7, 9"), "7, 9"),
    "length: with chunks": (
        headed(b"Content-Length: 8", b"Transfer-Encoding: chunked", body=b"7\r\ncontent\r\n0\r\n\r\n"),
        "announces 8 bytes",
    ),
    "chunk: no number": (chunked(b"zz\r\ncontent"), "cannot be read"),
    "chunk: negative": (chunked(b"-7\r\ncontent\r\n"), "sends more than 7 bytes"),
    "chunk: cut": (chunked(b"ff\r\ncontent"), "cannot be read"),
    "chunk: no end": (chunked(b"7\r\ncontentXX"), "cannot be read"),
    "chunk: too much": (chunked(b"8\r\ncontents\r\n0\r\n\r\n"), "sends more than 7 bytes"),
    "chunk: endless line": (chunked(b"7" * 200_000), "cannot be read"),
    "cut short": (headed(b"Content-Length: 7", body=b"cont"), "cannot be read"),
    "nothing": (b"", "cannot be read"),
    "cut in the head": (b"HTTP/1.1 200 OK\r\nContent-Le", "ended after 0 of 7"),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "cannot be read"),
    "status: no number": (b"HTTP/1.1 abc OK\r\n\r\n", "cannot be read"),
    "status: superscript": (b"HTTP/1.1 20\xb2 OK\r\n\r\n", "cannot be read"),
    "status: 99999": (b"HTTP/1.1 99999 OK\r\n\r\n", "cannot be read"),
    "status: 199": (b"HTTP/1.1 199 Odd\r\n\r\n", "answers 199"),
    "status: long": (b"HTTP/1.1 500 " + b"x" * 200_000 + b"\r\n\r\n", "cannot be read"),
    "header: long": (headed(b"X: " + b"x" * 200_000), "cannot be read"),
    "header: many": (headed(*[b"X: y"] * 500), "cannot be read"),
    "location: none": (answer("302 Found"), "no Location"),
    "location: empty": (answer("302 Found", Location=""), "no Location"),
    "location: blanks": (answer("302 Found", Location="http://127.0.0.1/a b"), "which is no address"),
    "location: latin-1": (b"HTTP/1.1 302 F\r\nLocation: /\xe9\xff\r\n\r\n", "which is no address"),
    "location: escape": (b"HTTP/1.1 302 F\r\nLocation: /\x1b[2J\r\n\r\n", "which is no address"),
    "location: half an address": (answer("302 F", Location="http://[::1/"), "is no address"),
    "location: port": (answer("302 F", Location="http://127.0.0.1:99999/"), "is no address"),
    "location: port of letters": (answer("302 F", Location="http://127.0.0.1:x/"), "is no address"),
    "location: port 0": (answer("302 F", Location="http://127.0.0.1:0/"), "no address of a web server"),
    "location: file": (answer("302 F", Location="file:///etc/passwd"), "no address of a web server"),
    "location: no host": (answer("302 F", Location="http:///x"), "more than 5 times"),
    "location: long host": (answer("302 F", Location=f"http://{'a' * 300}/"), "cannot be read"),
    "location: empty label": (answer("302 F", Location="http://a..b/"), "cannot be read"),
    "location: two": (
        b"HTTP/1.1 302 F\r\nLocation: http://a/\r\nLocation: http://b/\r\n\r\n",
        "which is no address",
    ),
    "location: itself": (answer("302 F", Location="/"), "elsewhere more than 5 times"),
}


@pytest.mark.parametrize(("reply", "said"), MALFORMED.values(), ids=MALFORMED)
def test_an_answer_that_is_none(reply: bytes, said: str) -> None:
    def once(_heard: Heard, connection: socket.socket, _over: threading.Event) -> None:
        connection.sendall(reply)

    with serve_raw(once) as server, pytest.raises(TransferError) as caught:
        get(server.url)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 600
    assert str(caught.value).startswith(server.url)


def test_odd_bytes_where_they_do_no_harm() -> None:
    odd = headed(b"Content-Length: 7", b"X-\xff\x00: \xfe\x1b", b"no colon here", b"Content-Length: 7")
    with serve_raw(always(odd)) as server:
        assert get(server.url) == BODY


@pytest.mark.filterwarnings("error")
def test_a_cookie_that_is_none_says_nothing() -> None:
    """The cookie jar of Python warns of this date with a traceback."""
    cookie = b"Set-Cookie: a=b; expires=Thu, 01 Foo 2030 00:00:00 GMT"
    with serve_raw(always(headed(b"Content-Length: 7", cookie))) as server:
        assert get(server.url) == BODY


def test_a_redirect_with_an_endless_body_is_followed_at_once() -> None:
    def reply(heard: Heard, connection: socket.socket, over: threading.Event) -> None:
        if "/there" in heard.line:
            connection.sendall(headed(b"Content-Length: 7"))
            return
        connection.sendall(b"HTTP/1.1 302 F\r\nLocation: /there\r\n\r\n")
        while not over.is_set():
            connection.sendall(bytes(1 << 16))

    with serve_raw(reply) as server:
        assert get(f"{server.url}/here") == BODY


@pytest.mark.parametrize("bad", ["hang", *MALFORMED])
def test_the_next_address_is_asked(
    served: ServedArchive, bad: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    deb = served.archive.add_deb("package")
    stanza = served.archive.stanzas[-1]
    row = Row(
        "package",
        "1.0",
        "all",
        deb.stat().st_size,
        stanza["SHA256"],
        stanza["Filename"],
        "debian",
        "requested",
    )
    broken = always(MALFORMED[bad][0]) if bad in MALFORMED else dripping(last=CONTINUE)

    def once(heard: Heard, connection: socket.socket, over: threading.Event) -> None:
        said = broken(heard, connection, over)
        if said:
            connection.sendall(said)

    with serve_raw(once) as first:
        pin = Pin("debian", served.archive, [first.url, served.server.url])
        served.project = make_project(tmp_path_factory.mktemp("project"), pin)
        assert served.store.fetch([row], served.keys, served.progress)[row].read_bytes() == deb.read_bytes()
        assert first.heard
