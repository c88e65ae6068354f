"""An engine over TCP is a server like any other: it gets no password that was not meant for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dindkit.engine import discover
from tests.support.raw_server import Heard, answer, serve_raw

VERSION = answer("200 OK", b'{"ApiVersion": "1.44", "Components": []}', Content_Type="application/json")


def test_netrc_is_not_for_engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NETRC", raising=False)
    (tmp_path / ".netrc").write_text(
        "machine 127.0.0.1 login me password secret\ndefault login everybody password known\n"
    )
    with serve_raw(lambda *_: VERSION, "127.0.0.2") as other:

        def reply(heard: Heard, *_: object) -> bytes:
            return answer("302 F", Location=f"{other.url}/x") if "/info" in heard.line else VERSION

        with serve_raw(reply) as server:
            found = discover.connect(f"tcp://{server.netloc}", "DOCKER_HOST")
            found.client.version()
            found.client.info()
        assert len(server.heard) >= 3
        assert other.heard
        assert server.secrets() + other.secrets() == [set()] * len(server.heard + other.heard)
