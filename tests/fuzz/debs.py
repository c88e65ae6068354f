"""Packages: what `inspect` takes goes into a tree, on disk, and to dpkg, which must see the same in it."""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

from hypothesis import strategies as st

from dindkit.formats import deb, package_conflicts
from dindkit.formats.contents import ContentStore
from dindkit.formats.layer import extract_tree
from dindkit.formats.tree import Tree, read_tar
from dindkit.image.assemble import Rules, bootstrap
from dindkit.image.staging import Staging
from dindkit.packages.lock import Row
from dindkit.progress import Step
from tests.fuzz import edits, tars, texts
from tests.fuzz.jail import contained
from tests.fuzz.target import Target
from tests.fuzz.tars import Member

ROW = Row("hello", "1:2.0-3", "amd64", 1, "0" * 64, "pool/hello.deb", "debian", "requested")
CONTROL = [
    (b"Package", b"hello"),
    (b"Version", b"1:2.0-3"),
    (b"Architecture", b"amd64"),
    (b"Maintainer", b"Test <test@example.org>"),
    (b"Depends", b"libc6 (>= 2)"),
    (b"Description", b"a\n b\n c"),
]


@dataclass(frozen=True)
class Case:
    """A package by its parts, and what is wrong with them."""

    control: list[texts.Change]
    scripts: tuple[Member, ...]
    members: tuple[Member, ...]
    packing: tuple[tuple[str, ...], tuple[str, ...]]
    heads: tuple[tuple[int, bytes], ...]
    version: bytes
    tar_edits: list[edits.Edit]
    edits: list[edits.Edit]

    def encoded(self) -> bytes:
        """Return the package's bytes."""
        control = Member(b"./control", content=texts.stanza(CONTROL, self.control))
        inside = tars.encode((Member(b"./", tars.FOLDER, mode=0o755), control, *self.scripts))
        data = edits.edited(
            tars.encode((Member(b"./", tars.FOLDER, mode=0o755), *self.members)), self.tar_edits
        )
        parts = [("debian-binary", self.version)]
        for stem, tar, packing in zip(("control", "data"), (inside, data), self.packing, strict=True):
            parts.append((f"{stem}.tar{edits.suffix(packing)}", edits.packed(tar, packing)))
        out = b"!<arch>\n"
        for index, (name, content) in enumerate(parts):
            head = f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode()
            for place, value in self.heads:
                if place // 60 == index:
                    head = (head[: place % 60] + value + head[place % 60 + len(value) :])[:60]
            out += head + content + b"\n" * (len(content) % 2)
        return edits.edited(out, self.edits)


FIELDS = [
    b"Package",
    b"Version",
    b"Architecture",
    b"Source",
    b"Essential",
    b"Multi-Arch",
    b"Provides",
    b"Depends",
]

CASES = st.builds(
    Case,
    control=st.one_of(st.just([]), st.just([]), texts.changes(FIELDS, [])),
    scripts=st.one_of(
        st.just(()), st.just(()), st.lists(st.one_of(tars.HONEST, tars.ODD), max_size=2).map(tuple)
    ),
    members=tars.MEMBERS,
    packing=st.one_of(st.just((("gz",), ("gz",))), st.tuples(edits.PACKINGS, edits.PACKINGS)),
    heads=st.one_of(
        st.just(()),
        st.lists(
            st.tuples(
                st.sampled_from([0, 48, 58, 60, 76, 108, 118, 120, 132, 168, 178]),
                st.sampled_from(
                    [b"0         ", b"9999999999", b"-1", b" ", b"/", b"_", b"\xb2", b"\xff", b"x"]
                ),
            ),
            max_size=1,
        ).map(tuple),
    ),
    version=st.sampled_from([b"2.0\n"] * 8 + [b"2.1\nmore\n", b"3.0\n", b"2.0", b""]),
    tar_edits=st.one_of(st.just([]), st.just([]), edits.EDITS),
    edits=st.one_of(st.just([]), st.just([]), edits.EDITS),
)


def accept(case: Case, folder: Path) -> deb.Deb:
    """Write the package, and return it as a build takes it: checked alone, and against itself."""
    data = case.encoded()
    path = folder / "hello.deb"
    path.write_bytes(data)
    row = replace(ROW, size=len(data), sha256=hashlib.sha256(data).hexdigest())
    with Staging(folder / "staging") as staging:
        staging.begin(row, path)
        (found,) = staging.checked([row], Step(None, None))
    package_conflicts.check_together([found], {})
    assert all(found.control[name] == value for name, value in _agreed())
    again = deb.inspect(found.file, row)
    assert again.control == found.control
    assert [one.entry for one in again.members] == [one.entry for one in found.members]
    return found


def _agreed() -> tuple[tuple[str, str], ...]:
    return ("Package", ROW.name), ("Version", ROW.version), ("Architecture", ROW.architecture)


def whole(tree: Tree) -> None:
    """Hold a tree to what everything later relies on: each parent is there, and is a folder."""
    for path in tree.entries:
        assert not path.startswith("/"), path
        assert ".." not in path.split("/"), path
        if path:
            parent = path.rpartition("/")[0]
            assert parent in tree.entries, f"{path} has no parent"
            assert tree.entries[parent].kind == "dir", f"{path} is below {tree.entries[parent]}"


def same_again(tree: Tree, contents: ContentStore) -> Tree:
    """Write the tree and read it into `contents`: nothing may have changed. Returns the tree then read."""
    out = BytesIO()
    tree.write(out)
    out.seek(0)
    again = Tree(contents, read_tar(out, contents))
    assert again.entries == tree.entries
    return again


def check_unpacked(case: Case, folder: Path) -> None:
    """Hold what is accepted to this: it makes a sound tree, which stays the same, inside its folder."""
    found = accept(case, folder)
    adopting, contents = ContentStore(folder), ContentStore(folder)
    tree = bootstrap([found], Rules((), ()), adopting)
    whole(tree)
    again = same_again(tree, contents)  # in the jail, there is no file to read contents from
    contained(folder, lambda root: extract_tree(again, root))
    adopting.close()
    contents.close()


#: dpkg as root of a user namespace that is nobody outside: it can write to no place but its own.
NOBODY = [
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    "unshare",
    "--user",
    "--map-root-user",
]


def check_dpkg(case: Case, folder: Path) -> None:
    """Where dpkg takes what is accepted, it reads the same fields and unpacks the same paths."""
    found = accept(case, folder)
    words = ["dpkg-deb", "--show", "--showformat=${Package} ${Version} ${Architecture}", str(found.file)]
    said = subprocess.run(words, capture_output=True, check=False, timeout=20)
    if said.returncode:
        return  # dpkg is stricter: the build fails, loudly
    assert said.stdout.decode(errors="replace") == f"{ROW.name} {ROW.version} {ROW.architecture}"
    folder.chmod(0o755)
    root = folder / "root"
    for name in ("var/lib/dpkg/info", "var/lib/dpkg/updates"):
        (root / name).mkdir(parents=True)
    for name in ("status", "available"):
        (root / "var/lib/dpkg" / name).touch()
    for place in (root, *root.rglob("*")):
        place.chmod(0o777)
    words = [*NOBODY, "dpkg", f"--root={root}", "--force-all", "--unpack", str(found.file)]
    done = subprocess.run(words, capture_output=True, check=False, timeout=20)
    if done.returncode:
        return
    seen = {str(one.relative_to(root)) for one in root.rglob("*")}
    extra = {one for one in seen if not one.startswith("var")} - {member.path for member in found.members}
    folders = {one for one in extra if (root / one).is_dir() and not (root / one).is_symlink()}
    assert not extra - folders, f"dpkg unpacked {sorted(extra - folders)}, which inspect does not know of"
    missing = [one.path for one in found.members if one.path and one.path not in seen]
    assert not missing, f"dpkg did not unpack {missing}"


HONEST = Case([], (), (Member(b"./a"),), (("xz",), ("xz",)), (), b"2.0\n", [], [])

TARGETS = (
    Target("packages", CASES, check_unpacked, HONEST, 30),
    Target("packages and dpkg", CASES, check_dpkg, HONEST, 10),
)
