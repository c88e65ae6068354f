"""A small image of three layers with one of everything that an audit tells about."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from dindkit import process
from dindkit.formats import layer
from dindkit.formats.contents import ContentStore
from dindkit.formats.entry import Entry
from dindkit.formats.layer_store import LayerStore
from dindkit.formats.tree import Tree
from dindkit.image import build_inputs, recipe
from dindkit.image import built as images
from dindkit.image.build import Built
from dindkit.image.build_inputs import BuildInputs
from dindkit.image.image_config import FILES, PACKAGES, Source
from dindkit.packages import keys
from dindkit.packages.lock import Lock, ReleaseRecord, Row
from dindkit.progress import Progress
from dindkit.project import Project
from dindkit.review import gather
from dindkit.review.report import Report
from tests.support.archive import ArchiveBuilder, KeyRing, Pin, Server, make_project, serve

EPOCH = 1_700_000_000
#: cap_net_raw, permitted and effective, as version 2 of the extended attribute holds it.
CAP_NET_RAW = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)

BASE_RECIPE = 'title = "base"\nessential = true\npackages = ["apt"]\n'
DIND_RECIPE = """
title = "dind"
parent = "base"
packages = ["tool"]
folders = { "/certs" = "1777" }
[engines.docker-ce]
packages = ["docker-ce"]
archive = "docker"
[config]
entrypoint = ["start.sh"]
ports = ["2376/tcp"]
"""


COPYRIGHT = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: libc

Files: *
Copyright: 2020 Somebody
License: LGPL-2.1+
 The text.
 .
 License: not a field

Files: debian/*
License: Expat<b>

License: GPL-2
 Another text, which no files have.
"""

MORE_USERS = "odd:x:8:8::/:/bin/sh\nopen:x:9:9::/:/bin/sh\n"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=process.require("chromium"), args=options)
        yield chromium
        chromium.close()


@dataclass
class Scene:
    """A project with archives behind it, and the image that was built from its locks."""

    project: Project
    chain: list[BuildInputs]
    built: Built
    archives: dict[str, ArchiveBuilder]
    servers: list[Server]
    said: StringIO

    @property
    def progress(self) -> Progress:
        return Progress(self.said)

    def report(self) -> Report:
        contents = ContentStore(self.project.state)
        try:
            return gather.gather(gather.read(self.built, contents), self.chain)
        finally:
            contents.close()


def row(name: str, archive: str, why: str, version: str = "1.0") -> Row:
    digest = hashlib.sha256(name.encode()).hexdigest()
    return Row(name, version, "amd64", 1000, digest, f"pool/{name}_{version}_amd64.deb", archive, why)


def base_tree(contents: ContentStore) -> Tree:
    tree = Tree(contents)
    info = "var/lib/dpkg/info"
    for name in ("bin", "lib"):
        tree.add(Entry(name, "symlink", 0o777, link=f"usr/{name}"))
    tree.put("usr/bin/su", "su" * 100, 0o4755)
    tree.put("usr/bin/ping", "ping" * 50, 0o755)
    tree.entries["usr/bin/ping"] = replace(tree.entries["usr/bin/ping"], capability=CAP_NET_RAW)
    tree.put("etc/libc.conf", "shipped\n")
    tree.put("etc/environment", "LANG=C\n")
    tree.put("etc/passwd", "root:x:0:0:root:/root:/bin/bash\nguest::7:7::/home/guest:/bin/sh\n" + MORE_USERS)
    tree.put("etc/shadow", "root:*:1::::::\nodd:x:1::::::\nopen:$y$j9T$abc:1::::::\n", 0o640)
    tree.put("etc/group", "root:x:0:\naudio:x:29:root\n")
    # As a package from before /usr was merged lists its paths; the third is diverted by base-files.
    tree.put(f"{info}/libc.list", "/.\n/bin/su\n/bin/ping\n/etc/libc.conf\n/lib/diverted\n")
    tree.put(f"{info}/libc.md5sums", f"{hashlib.md5(b'su' * 100).hexdigest()}  bin/su\n")
    tree.put(f"{info}/libc.postinst", "#!/bin/sh\ntouch ${DPKG_ROOT}/etc/environment\n", 0o755)
    tree.put(f"{info}/base-files.list", "/.\n/lib/diverted\n/usr\n/usr/bin\n")
    tree.put("var/lib/dpkg/diversions", "/lib/diverted\n/lib/diverted.old\nbase-files\n")
    tree.put("usr/share/doc/libc/copyright", COPYRIGHT)
    tree.put("usr/share/doc/base-files/copyright", "This is Debian, in plain words.\n")
    tree.put("usr/lib/diverted", "new")
    tree.put("usr/lib/diverted.old", "old")
    conffile = hashlib.md5(b"shipped\n").hexdigest()
    tree.put(
        "var/lib/dpkg/status",
        f"Package: libc\nConffiles:\n /etc/libc.conf {conffile}\nVersion: 1.0\n\n"
        "Package: apt\nSource: libc\nVersion: 1.0\n\n",
    )
    return tree


def dind_tree(base: Tree, contents: ContentStore) -> Tree:
    tree = Tree(contents, base.entries.values())
    tree.edit("etc/libc.conf", "changed\n")
    tree.put("usr/bin/tool", "tool" * 1000, 0o755)
    tree.put("var/lib/dpkg/info/tool.list", "/.\n/usr/bin/tool\n/usr/lib/systemd/system/tool.socket\n")
    tree.put("usr/lib/systemd/system/tool.socket", "[Socket]\nListenStream=/run/tool.sock\n")
    wanted = "etc/systemd/system/sockets.target.wants/tool.socket"
    tree.add(Entry(wanted, "symlink", 0o777, link="/usr/lib/systemd/system/tool.socket"))
    tree.add(Entry("etc/alternatives/editor", "symlink", 0o777, link="/usr/bin/tool"))
    tree.put("etc/mystery<b>", "?", 0o666)
    return tree


def own_files(packages: Tree) -> Tree:
    tree = Tree(packages.contents, packages.entries.values())
    tree.add(Entry("certs", "dir", 0o1777))
    tree.put("usr/local/bin/start.sh", "#!/bin/sh\n", 0o755)
    return tree


def pack(
    chain: list[BuildInputs], folder: Path, change: Callable[[Tree], None] = lambda _tree: None
) -> Built:
    """Make the image; `change` gets the tree of its second recipe's packages first."""
    contents = ContentStore(folder)
    store = LayerStore(folder / "layers")
    base = base_tree(contents)
    packages = dind_tree(base, contents)
    change(packages)
    whole = own_files(packages)
    steps = [(base, None), (packages, base), (whole, packages)]
    layers = tuple(store.add(layer.difference(tree, below), contents) for tree, below in steps)
    sources = (Source("base", PACKAGES), Source("dind", PACKAGES), Source("dind", FILES))
    (folder / "images").mkdir(exist_ok=True)
    return images.of(chain[-1], layers, sources, folder / "images" / "dind")


@pytest.fixture
def scene(tmp_path: Path, key_ring: KeyRing) -> Iterator[Scene]:
    names = {"debian": "trixie", "debian-security": "trixie-security", "docker": "trixie"}
    archives = {name: ArchiveBuilder(tmp_path / name, key_ring, key_ring.make()) for name in names}
    for name, suite in names.items():
        archives[name].publish(suite, date=EPOCH)
    with (
        serve(archives["debian"].folder) as debian,
        serve(archives["debian-security"].folder) as security,
        serve(archives["docker"].folder) as docker,
    ):
        servers = [debian, security, docker]
        pins = [
            Pin(name, archives[name], server.url, {"trixie": [suite]}, on_request=name == "docker")
            for (name, suite), server in zip(names.items(), servers, strict=True)
        ]
        project = make_project(tmp_path / "project", *pins)
        for name, text in (("base", BASE_RECIPE), ("dind", DIND_RECIPE)):
            (project.images / name).mkdir(parents=True)
            (project.images / name / "image.toml").write_text(text)
        start = project.images / "dind/rootfs/usr/local/bin/start.sh"
        start.parent.mkdir(parents=True)
        start.write_text("#!/bin/sh\n")
        pinned = keys.load(project.keys)
        records = tuple(
            ReleaseRecord(
                name, suite, EPOCH, "0" * 64, pinned.archive(name).keys[0].fingerprint, "20231114T221320Z"
            )
            for name, suite in names.items()
        )
        rows = (("apt", "requested"), ("base-files", "essential"), ("libc", "apt"))
        below_rows = tuple(row(name, "debian", why) for name, why in rows)
        base = Lock("base", "trixie", "amd64", "", "", EPOCH, records[:2], below_rows)
        more = (row("docker-ce", "docker", "requested"), row("tool", "debian", "requested"))
        dind = Lock("dind", "trixie", "amd64", "docker-ce", "0" * 64, EPOCH, records, more)
        first, second = recipe.with_parents(project, "dind")
        below = build_inputs.BuildInputs(first, "", base, pinned, None, from_lock=True)
        chain = [below, build_inputs.BuildInputs(second, "docker-ce", dind, pinned, below, from_lock=True)]
        yield Scene(project, chain, pack(chain, tmp_path / "state"), archives, servers, StringIO())
