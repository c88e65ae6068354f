"""apt and dpkg find the trees in order, and install into them from a signed archive."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import IO

import pytest

from dindkit.formats.contents import ContentStore
from dindkit.formats.image_archive import open_archive
from dindkit.formats.tree import Tree
from dindkit.image.build import Built
from dindkit.image.build_options import BuildOptions
from dindkit.sandbox.interface import ScriptRun
from dindkit.sandbox.namespaces import Namespaces
from tests.support.archive import ArchiveBuilder, KeyRing

SOURCES = """\
Types: deb
URIs: file:/archive
Suites: trixie
Components: main
Signed-By: /archive/key.asc
"""

SCRIPT = """\
apt-get -q check
dpkg --audit >/audit
apt-mark showauto >/auto
rm /etc/apt/sources.list.d/*
cp /archive/test.sources /etc/apt/sources.list.d/
apt-get -q update
apt-get -q install --yes --no-install-recommends greeter
dpkg --verify greeter
greet >/greeting
ls /usr/share/doc/greeter >/doc
apt-get -q purge --yes greeter
"""


@pytest.fixture(scope="module")
def trees(base: Built, dind: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Tree]]:
    """Give what is in both images."""
    found = {}
    with closing(ContentStore(tmp_path_factory.mktemp("contents"))) as contents:
        for name, built in (("base", base), ("dind", dind)):
            with open_archive(built.archive) as image:
                found[name] = image.tree(contents)
        yield found


def run(sandbox: Namespaces, tree: Tree, script: str) -> dict[str, str]:
    """Run a script in a tree, and return the files that are then in its uppermost folder."""

    def take(stream: IO[bytes]) -> dict[str, str]:
        found = {}
        with tarfile.open(fileobj=stream, mode="r|") as members:
            for member in members:
                name = member.name.removeprefix("./")
                if member.isfile() and "/" not in name:
                    file = members.extractfile(member)
                    assert file is not None
                    found[name] = file.read().decode(errors="replace")
        while stream.read(1 << 20):
            pass
        return found

    return sandbox.run(ScriptRun(tree.write, script, take, {}, 3_000_000_000))


@pytest.mark.parametrize("name", ["base", "dind"])
def test_apt_works_in_the_image(
    name: str, trees: dict[str, Tree], key_ring: KeyRing, sandbox: Namespaces, tmp_path: Path
) -> None:
    archive = ArchiveBuilder(tmp_path / "archive", key_ring, key_ring.make())
    files = {"usr/bin/greet": "#!/bin/sh\necho hello\n", "usr/share/doc/greeter/README": "left out\n"}
    archive.add_deb("greeter", "1.0", depends="libc6", files=files)
    archive.publish("trixie", architecture=BuildOptions().target)
    (archive.folder / "key.asc").write_bytes(key_ring.public(archive.signers[0]))
    (archive.folder / "test.sources").write_text(SOURCES)
    tree = Tree(trees[name].contents, trees[name].entries.values())
    for path in archive.folder.rglob("*"):
        if path.is_file():
            tree.put(f"archive/{path.relative_to(archive.folder)}", path.read_bytes())
    after = run(sandbox, tree, SCRIPT)
    assert after["audit"] == ""
    assert after["greeting"] == "hello\n"
    assert after["doc"] == "copyright\n"  # the slimming rules are obeyed by later installs
    automatic = after["auto"].split()
    assert "libapt-pkg7.0" in automatic
    assert ("containerd" in automatic, "docker.io" in automatic) == (name == "dind", False)
    assert "etc/apt/sources.list.d/debian.sources" in tree.entries


def test_a_package_takes_the_place_of_a_link_to_busybox(
    trees: dict[str, Tree], key_ring: KeyRing, sandbox: Namespaces, tmp_path: Path
) -> None:
    """By a file of its own, or by an alternative."""
    tree = Tree(trees["dind"].contents, trees["dind"].entries.values())
    assert tree.entries["usr/bin/unzip"].link == tree.entries["usr/bin/vi"].link == "busybox"
    archive = ArchiveBuilder(tmp_path / "archive", key_ring, key_ring.make())
    postinst = "#!/bin/sh\nupdate-alternatives --install /usr/bin/vi vi /usr/bin/vim 50\n"
    files = {"usr/bin/unzip": "#!/bin/sh\necho mine\n", "usr/bin/vim": "#!/bin/sh\necho also mine\n"}
    archive.add_deb("tools", "1.0", files=files, scripts={"postinst": postinst})
    (package,) = archive.folder.rglob("*.deb")
    tree.put("tools.deb", package.read_bytes())
    script = "dpkg --install /tools.deb\n{ unzip; vi; busybox true; } >/said\n"
    after = run(sandbox, tree, script)
    assert after["said"] == "mine\nalso mine\n"
