"""What a mirror may reply: the file is had all the same, from the next address."""

from __future__ import annotations

import hashlib
from pathlib import Path

from hypothesis import strategies as st

from dindkit.errors import DindkitError
from dindkit.packages.download_cache import DownloadCache, Wanted
from dindkit.packages.transfer import RetryPolicy
from tests.fuzz.replies import HEADERS, Reply, replies, serving
from tests.fuzz.target import Target

FILE = b"the file that is wanted\n" * 20
SHA256 = hashlib.sha256(FILE).hexdigest()


BODIES = st.sampled_from([FILE, FILE, FILE[:-1], FILE + b"x", b"", bytes(100_000), b"\x1f\x8b\x08broken"])


GOOD = Reply(b"200 OK", (), FILE, chunked=False, length=True)


def check_mirror(case: list[Reply], folder: Path) -> None:
    """Whatever a mirror replies, the file is its own or comes from the next address; nothing is left over."""
    store = DownloadCache(folder / "cache", RetryPolicy(tries=2, breaks=2, pause=0, connect=3, silence=3))
    with serving(case) as bad, serving([GOOD]) as port:
        urls = (f"http://127.0.0.1:{bad}/pool/a.deb", f"http://127.0.0.1:{port}/pool/a.deb")
        try:
            path = store.obtain(Wanted("a 1", len(FILE), SHA256, urls))
        except DindkitError as error:
            raise AssertionError("the next address was not asked") from error
        assert path.read_bytes() == FILE
        assert not list((store.folder / "partial").iterdir())
        assert len(store.read(urls[0], 1000)) <= 1000


MIRROR = replies(HEADERS, BODIES)

TARGETS = (Target("replies of a mirror", MIRROR, check_mirror, [GOOD], 20),)
