"""From packages to a tree: checked .debs go into the sandbox, where dpkg unpacks and configures them."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import IO

from dindkit.errors import TrustError
from dindkit.files import open_regular
from dindkit.formats import deb, together
from dindkit.formats.deb import Deb
from dindkit.formats.entry import Entry
from dindkit.formats.tar_writer import Writer
from dindkit.formats.tree import Spool, Tree, entries, read_tar
from dindkit.image import accounts
from dindkit.image.inputs import Ingredients
from dindkit.image.normalize import normalize
from dindkit.packages import closure, stanza
from dindkit.packages.lock import Row
from dindkit.progress import Progress, Step
from dindkit.sandbox.interface import Sandbox

#: Where the packages wait inside the sandbox.
PACKAGES_FOLDER = ".dindkit"

#: No order of unpacking satisfies every Pre-Depends of the Essential set, hence --force-depends. All is in a
#: tmpfs, hence --force-unsafe-io. The packages go before configuring, to free the memory.
SCRIPT = f"""\
dpkg --force-unsafe-io --force-depends --unpack /{PACKAGES_FOLDER}/*.deb
rm -r /{PACKAGES_FOLDER}
dpkg --configure -a
"""

#: A container runs no init, so installing a package does not start its daemon: see invoke-rc.d(8).
POLICY = "usr/sbin/policy-rc.d"
POLICY_TEXT = "#!/bin/sh\n# Installing a package in a container starts no daemon.\nexit 101\n"


def stage(files: Mapping[Row, Path], spool: Spool) -> None:
    """Copy every package into `spool`, where nobody else can change it, and hash the copy.

    All that follows reads the copy, so that what was hashed is what is unpacked, whoever may write to the
    cache. Raises TrustError where it is not what its row says, DindkitError where it is no file.
    """
    for row, path in files.items():
        with open_regular(path) as file:
            digest, size = spool.add(file, row.size + 1)
        if (digest, size) != (row.sha256, row.size):
            raise TrustError(
                f"{row.name} was changed after it was downloaded: {path} is not what the lock says.",
                "See who may write there, delete it, and build again.",
            )


def inspect(rows: Iterable[Row], spool: Spool, parent: Tree | None, step: Step) -> list[Deb]:
    """Check every package, alone and together with the others, on all cores. Raises DebError.

    Threads are enough: the decompressors, which do the work, let go of the interpreter.
    """

    def one_of(row: Row) -> Deb:
        with spool.open(row.sha256) as file:
            return deb.read(file, row)

    with ThreadPool(os.cpu_count()) as pool:
        checked = []
        for one in pool.imap_unordered(one_of, sorted(rows, key=lambda row: -row.size)):
            checked.append(one)
            step.advance()
    checked.sort(key=lambda one: one.name)
    links = (
        {path: entry.link for path, entry in parent.entries.items() if entry.kind == "symlink"}
        if parent
        else {}
    )
    together.check_together(checked, links)
    step.detail = f"{len(checked)} packages"
    return checked


def _closed(made: Ingredients, checked: Iterable[Deb], parent: Tree | None) -> None:
    """Hold the lock against what the packages themselves say. Raises RecipeError."""
    controls = {one.name: one.control for one in checked}
    for lines in parent.text("var/lib/dpkg/status").split("\n\n") if parent else ():
        fields = stanza.fields(lines)
        if fields:
            controls[fields["Package"]] = fields
    above = made.parent.rows if made.parent else ()
    closure.check_closure(made.lock.rows, controls, made.requested, above)


class Rules:
    """dpkg's path filter, dpkg(1) --path-exclude: the last pattern that matches a path decides."""

    def __init__(self, exclude: Iterable[str], include: Iterable[str]) -> None:
        self._lines = [f"path-exclude={pattern}" for pattern in exclude]
        self._lines += [f"path-include={pattern}" for pattern in include]
        self._exclude = [re.compile(fnmatch.translate(pattern)) for pattern in exclude]
        self._include = [re.compile(fnmatch.translate(pattern)) for pattern in include]

    @property
    def text(self) -> str:
        """The lines of a file in /etc/dpkg/dpkg.cfg.d."""
        return "".join(f"{line}\n" for line in self._lines)

    def leaves_out(self, path: str) -> bool:
        """Tell whether dpkg leaves `path` out."""
        name = f"/{path}"
        out = any(pattern.match(name) for pattern in self._exclude)
        return out and not any(pattern.match(name) for pattern in self._include)


def _placed(entry: Entry, tree: Tree) -> Entry:
    """Return `entry` at its own place in `tree`: below /usr where the links of merged /usr are there."""

    def canonical_path(path: str) -> str:
        top = tree.entries.get(path.partition("/")[0])
        merged = top is not None and top.kind == "symlink" and together.MERGED.get(top.path) == top.link
        return together.canonical(path) if merged else path

    link = canonical_path(entry.link) if entry.kind == "hardlink" else entry.link
    return replace(entry, path=canonical_path(entry.path), link=link)


def bootstrap(rows: Iterable[Row], rules: Rules, spool: Spool) -> Tree:
    """Return the union of all packages' files: a tree in which dpkg can run, and unpack them once more."""
    tree = Tree(spool)
    for row in sorted(rows, key=lambda row: (row.name != "base-files", row.name)):
        with spool.open(row.sha256) as file, deb.data(file, row.name) as archive:
            for entry in entries(archive, spool):
                if entry.path and not rules.leaves_out(entry.path):
                    placed = _placed(entry, tree)
                    old = tree.entries.get(placed.path)
                    if old is None or old.kind != "symlink":
                        tree.add(placed)
    tree.put("var/lib/dpkg/status", "")
    return tree


def _write_with_packages(tree: Tree, rows: Iterable[Row], out: IO[bytes]) -> None:
    """Write `tree` and the packages as one tar stream."""
    writer = Writer(out)
    for path in tree.paths():
        entry = tree.entries[path]
        writer.add(entry, tree.spool.chunks(entry.digest) if entry.kind == "file" else ())
    writer.add(Entry(PACKAGES_FOLDER, "dir", 0o755))
    for row in sorted(rows):
        name = f"{PACKAGES_FOLDER}/{row.name}_{row.architecture}.deb"
        writer.add(Entry(name, "file", 0o644, size=row.size), tree.spool.chunks(row.sha256))
    writer.close()


def space_needed(checked: Iterable[Deb], files: Iterable[Row], parent: Tree | None) -> int:
    """Return how many bytes the sandbox's file system may need."""
    before = sum(entry.size for entry in parent.entries.values()) if parent else 0
    unpacked = sum(one.unpacked + 4096 * len(one.members) for one in checked)
    return before + unpacked + sum(row.size for row in files) + 300_000_000


def _marks(made: Ingredients) -> str:
    """Return the text of apt's extended_states: what apt may remove again."""
    return "".join(
        f"Package: {name}\nArchitecture: {made.lock.architecture}\nAuto-Installed: 1\n\n"
        for name in sorted(made.automatic)
    )


def prepare(tree: Tree, made: Ingredients, rules: Rules) -> None:
    """Put into `tree` what must be there before packages: dpkg's rules, accounts, a policy for daemons."""
    if rules.text:
        tree.put(f"etc/dpkg/dpkg.cfg.d/dindkit-{made.recipe.name}", rules.text, mtime=made.epoch)
    tree.put(POLICY, POLICY_TEXT, 0o755, mtime=made.epoch)
    if made.parent:
        accounts.prepare(tree, made.recipe, made.epoch)


def without_packages(made: Ingredients, parent: Tree) -> Tree:
    """Return the tree of `parent` with the rules and accounts of a recipe that has no packages."""
    tree = Tree(parent.spool, parent.entries.values())
    prepare(tree, made, _rules(made))
    return tree


def _rules(made: Ingredients) -> Rules:
    slim = made.recipe.slim
    return Rules((*slim.exclude, *made.engine.exclude), slim.include)


def assemble(
    made: Ingredients,
    files: Mapping[Row, Path],
    parent: Tree | None,
    spool: Spool,
    sandbox: Sandbox,
    progress: Progress,
) -> Tree:
    """Return the tree that the packages of `made` make of `parent`, normalized.

    `files` are the packages of its lock. Raises TrustError, DebError, SandboxError.
    """
    recipe = made.recipe
    with progress.step(f"check packages of {recipe.name}", len(files)) as step:
        stage(files, spool)
        checked = inspect(files, spool, parent, step)
        _closed(made, checked, parent)
    rules = _rules(made)
    with progress.step(f"configure {recipe.name}"):
        tree = Tree(spool, parent.entries.values()) if parent else bootstrap(files, rules, spool)
        prepare(tree, made, rules)
        result = sandbox.run(
            lambda out: _write_with_packages(tree, files, out),
            SCRIPT,
            lambda stream: Tree(spool, read_tar(stream, spool)),
            {"SOURCE_DATE_EPOCH": str(made.epoch)},
            space_needed(checked, files, parent),
        )
    result.remove(PACKAGES_FOLDER)
    result.put("var/lib/apt/extended_states", _marks(made), mtime=made.epoch)
    shipped = {path: entry.mtime for path, entry in parent.entries.items()} if parent else {}
    shipped.update({member.path: member.mtime for one in checked for member in one.members})
    normalize(result, made.epoch, shipped)
    return result
