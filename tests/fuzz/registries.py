"""What a registry may reply, and what Docker's configuration may hold for it."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from hypothesis import strategies as st

from dindkit.formats.oci import INDEX, digest
from dindkit.registry import client, credentials, referrers
from dindkit.registry.client import Repository
from dindkit.registry.reference import Reference
from tests.fuzz.replies import HEADERS, Reply, replies, serving
from tests.fuzz.target import Target

CHALLENGES = [
    b'Basic realm="x"',
    b"Basic",
    b'Bearer realm="http://127.0.0.1:{port}/token",service="s",scope="x"',
    b'Bearer realm="http://127.0.0.1:{port}/token"',
    b'Bearer realm="http://127.0.0.1:1/"',
    b'Bearer realm="/token"',
    b'Bearer realm=""',
    b"Bearer",
    b'Bearer realm="http://["',
    b'Bearer realm="http://\xff/",service="\xff"',
    b"Negotiate",
    b'Digest realm="x"',
    b'Basic realm="a", Bearer realm="http://127.0.0.1:{port}/t"',
    b'Bearer realm="file:///etc/passwd"',
]
JSON = [
    {"token": "t"},
    {"token": "a\r\nX-Injected: b"},
    {"token": "\u202e\x00é"},
    {"token": 5},
    {"token": None, "access_token": ["x"]},
    [],
    "text",
    5,
    None,
    {"errors": [{"code": "DENIED", "message": "\x1b[2J" + "m" * 300}]},
    {"errors": [None]},
    {"errors": {}},
    {"errors": [{"message": {"a": 1}}]},
    {"schemaVersion": 2, "mediaType": INDEX, "manifests": []},
    {"schemaVersion": 2, "mediaType": INDEX, "manifests": None},
    {"schemaVersion": 2, "mediaType": INDEX, "manifests": [{"digest": 5}, None, "x"]},
    {"schemaVersion": 2, "mediaType": INDEX, "manifests": [{"platform": None}]},
    {"manifests": [{"digest": "sha256:" + "0" * 64, "platform": {"os": 5, "architecture": []}}]},
    {},
]
REGISTRY_BODIES = st.one_of(
    st.sampled_from(JSON).map(lambda one: json.dumps(one).encode()),
    st.sampled_from([b"", b"{", b"[" * 5000, b'{"token": "\xff"}', b"\xff\xfe{\0}\0", b"9" * 5000, b"NaN"]),
)
REGISTRY = replies(
    st.one_of(
        HEADERS,
        st.sampled_from(CHALLENGES).map(lambda one: b"WWW-Authenticate: " + one),
        st.sampled_from([b"OCI-Subject: x", b"Docker-Content-Digest: \xff", b"Docker-Upload-UUID: \x00"]),
    ),
    REGISTRY_BODIES,
)
EXPECTED = [b"200 OK", b"201 Created", b"202 Accepted", b"401 Unauthorized", b"404 Not Found"]


@dataclass(frozen=True)
class Session:
    """What is asked of a registry, and what it replies."""

    what: str
    login: bool
    replies: list[Reply]


SESSIONS = st.builds(
    Session,
    what=st.sampled_from(["blob", "upload", "get", "put", "attach"]),
    login=st.booleans(),
    replies=st.tuples(st.lists(st.sampled_from(EXPECTED), max_size=4), REGISTRY).map(
        lambda pair: [Reply(one, (b"Location: /up",), b"{}", False, True) for one in pair[0]] + pair[1]
    ),
)


def check_registry(case: Session, folder: Path) -> None:
    """Whatever a registry replies, each request ends in its result or in a sentence."""
    first = Reply(
        b"404 Not Found", (), b"", chunked=False, length=True
    )  # to the question whether it speaks TLS
    with serving([first, *case.replies]) as port, _configuration(folder, port, case.login):
        repository = Repository(Reference(f"127.0.0.1:{port}", "team/app", "latest"))
        blob = b"blob"
        if case.what == "blob":
            assert repository.has_blob(digest(blob)) in (True, False)
        elif case.what == "upload":
            repository.put_blob(digest(blob), len(blob), lambda: io.BytesIO(blob))
        elif case.what == "get":
            found = repository.get_manifest("latest", INDEX)
            assert found is None or isinstance(found, bytes)
        elif case.what == "put":
            repository.put_manifest("latest", INDEX, b"{}")
        else:
            subject = referrers.descriptor(INDEX, b"{}")
            referrers.attach(repository, subject, b"{}", "application/json", "a.json")


@contextmanager
def _configuration(folder: Path, port: int, login: bool) -> Iterator[None]:
    """Give the client a configuration of its own, and no pause between its tries."""
    auths = {f"127.0.0.1:{port}": {"username": "user", "password": "secret"}} if login else {}
    (folder / "config.json").write_text(json.dumps({"auths": auths}))
    quick = mock.patch.object(client, "_PAUSE", 0, create=True)
    with quick, mock.patch.dict(os.environ, {"DOCKER_CONFIG": str(folder)}):
        yield


LOGINS = st.one_of(
    st.builds(
        lambda auth, extra: json.dumps({"auths": {"registry.example:5000": auth}, **extra}).encode(),
        st.sampled_from(
            [
                {"auth": "dXNlcjpzZWNyZXQ="},
                {"auth": "dXNlcg=="},
                {"auth": "///"},
                {"auth": 5},
                {"auth": "é"},
                {"auth": ["x"]},
                {"username": 5, "password": {}},
                {"identitytoken": ["t"]},
                None,
                [],
                {"auth": "\ud800"},
            ]
        ),
        st.sampled_from(
            [
                {},
                {"credHelpers": []},
                {"credsStore": "no-such-helper"},
                {"credHelpers": {"registry.example:5000": 5}},
                {"credsStore": "../x"},
                {"credsStore": "a\0b"},
            ]
        ),
    ),
    st.sampled_from(
        [b"", b"[]", b"5", b"{", b"[" * 5000, b"\xff", b"\xff\xfe{\0}\0", b'{"auths": 5}', b"1" * 5000]
    ),
)


def check_login(case: bytes, folder: Path) -> None:
    """Whatever Docker's configuration holds, there are credentials, none, or a sentence."""
    (folder / "config.json").write_bytes(case)
    with mock.patch.dict(os.environ, {"DOCKER_CONFIG": str(folder)}):
        credentials.find("registry.example:5000")


HONEST = Session(
    what="upload",
    login=True,
    replies=[
        Reply(b"202 Accepted", (b"Location: /up",), b"", chunked=False, length=True),
        Reply(b"201 Created", (), b"", chunked=False, length=True),
    ],
)

TARGETS = (
    Target("replies of a registry", SESSIONS, check_registry, HONEST, 20),
    Target("Docker's configuration", LOGINS, check_login, b"{}", 20),
)
