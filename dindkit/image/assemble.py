"""From packages to a tree: checked .debs go into the sandbox, where dpkg unpacks and configures them."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from dataclasses import replace

from dindkit.formats import package_conflicts
from dindkit.formats.contents import ContentStore
from dindkit.formats.deb import Deb
from dindkit.formats.entry import Entry
from dindkit.formats.tree import Tree, read_tar
from dindkit.image import accounts
from dindkit.image.build_inputs import BuildInputs
from dindkit.image.normalize import normalize
from dindkit.image.staging import Staging
from dindkit.packages import closure, stanza
from dindkit.progress import Progress
from dindkit.sandbox.interface import PACKAGES_FOLDER, Sandbox, ScriptRun

#: --force-depends: no order of unpacking satisfies every Pre-Depends of the Essential set. --force-unsafe-io:
#: the tree is in a tmpfs. Packages that were copied into the tree are deleted before configuring.
SCRIPT = f"""\
dpkg --force-unsafe-io --force-depends --unpack /{PACKAGES_FOLDER}/*.deb
[ ! -w /{PACKAGES_FOLDER} ] || rm -r /{PACKAGES_FOLDER}
dpkg --configure -a
"""

#: A container runs no init, so installing a package does not start its daemon: see invoke-rc.d(8).
POLICY = "usr/sbin/policy-rc.d"
POLICY_TEXT = "#!/bin/sh\n# Installing a package in a container starts no daemon.\nexit 101\n"


def check(debs: list[Deb], parent: Tree | None) -> None:
    """Check packages together, each of which was checked alone before. Raises DebError."""
    links = (
        {path: entry.link for path, entry in parent.entries.items() if entry.kind == "symlink"}
        if parent
        else {}
    )
    package_conflicts.check_together(debs, links)


def _closed(inputs: BuildInputs, checked: Iterable[Deb], parent: Tree | None) -> None:
    """Check the lock against the packages' own control files. Raises RecipeError."""
    controls = {one.name: one.control for one in checked}
    for lines in parent.text("var/lib/dpkg/status").split("\n\n") if parent else ():
        fields = stanza.fields(lines)
        if fields:
            controls[fields["Package"]] = fields
    above = inputs.parent.rows if inputs.parent else ()
    closure.check_closure(inputs.lock.rows, controls, inputs.requested, above)


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
        """Tell whether dpkg does not install `path`."""
        name = f"/{path}"
        out = any(pattern.match(name) for pattern in self._exclude)
        return out and not any(pattern.match(name) for pattern in self._include)


def _placed(entry: Entry, tree: Tree) -> Entry:
    """Return `entry` with its path in `tree`: below /usr where `tree` has the links of merged /usr."""

    def canonical_path(path: str) -> str:
        top = tree.entries.get(path.partition("/")[0])
        merged = (
            top is not None and top.kind == "symlink" and package_conflicts.MERGED.get(top.path) == top.link
        )
        return package_conflicts.canonical(path) if merged else path

    link = canonical_path(entry.link) if entry.kind == "hardlink" else entry.link
    return replace(entry, path=canonical_path(entry.path), link=link)


def bootstrap(debs: Iterable[Deb], rules: Rules, contents: ContentStore) -> Tree:
    """Return a tree of all packages' files, in which dpkg can run and unpack them properly."""
    tree = Tree(contents)
    for deb in sorted(debs, key=lambda deb: (deb.name != "base-files", deb.name)):
        keep(deb, contents)
        for member in deb.members:
            if member.path and not rules.leaves_out(member.path):
                placed = _placed(member.entry, tree)
                old = tree.entries.get(placed.path)
                if old is None or old.kind != "symlink":
                    tree.add(placed)
    tree.put("var/lib/dpkg/status", "")
    return tree


def over(parent: Tree, debs: Iterable[Deb], contents: ContentStore) -> Tree:
    """Return a tree of `parent`; what dpkg unpacks in it need not be written once more to be read back."""
    for deb in debs:
        keep(deb, contents)
    return Tree(contents, parent.entries.values())


def keep(deb: Deb, contents: ContentStore) -> None:
    """Let `contents` read what it has not from the uncompressed package, which is there for a while only."""
    files = (one for one in deb.members if one.kind == "file" and one.entry.digest not in contents)
    contents.adopt(deb.file, {one.entry.digest: (one.start, one.entry.size) for one in files})


def space_needed(checked: Iterable[Deb], parent: Tree | None) -> int:
    """Return how many bytes the sandbox's file system may use."""
    before = sum(entry.size for entry in parent.entries.values()) if parent else 0
    unpacked = sum(one.unpacked + 4096 * len(one.members) for one in checked)
    return before + unpacked + 300_000_000


def _marks(inputs: BuildInputs) -> str:
    """Return the text of apt's extended_states: the packages that `apt autoremove` may remove."""
    return "".join(
        f"Package: {name}\nArchitecture: {inputs.lock.architecture}\nAuto-Installed: 1\n\n"
        for name in sorted(inputs.automatic)
    )


def prepare(tree: Tree, inputs: BuildInputs, rules: Rules) -> None:
    """Add to `tree` what packages need beforehand: dpkg's path rules, accounts, a policy-rc.d."""
    if rules.text:
        tree.put(f"etc/dpkg/dpkg.cfg.d/dindkit-{inputs.recipe.name}", rules.text, mtime=inputs.epoch)
    tree.put(POLICY, POLICY_TEXT, 0o755, mtime=inputs.epoch)
    if inputs.parent:
        accounts.prepare(tree, inputs.recipe, inputs.epoch)


def without_packages(inputs: BuildInputs, parent: Tree) -> Tree:
    """Return the tree of `parent` with the rules and accounts of a recipe that has no packages."""
    tree = Tree(parent.contents, parent.entries.values())
    prepare(tree, inputs, _rules(inputs))
    return tree


def _rules(inputs: BuildInputs) -> Rules:
    slim = inputs.recipe.slim
    return Rules((*slim.exclude, *inputs.engine.exclude), slim.include)


def assemble(
    inputs: BuildInputs,
    staging: Staging,
    parent: Tree | None,
    contents: ContentStore,
    sandbox: Sandbox,
    progress: Progress,
) -> Tree:
    """Return the tree of `parent` with the packages of `inputs` installed, normalized.

    `staging` is already checking the packages. Raises TrustError, DebError, SandboxError.
    """
    recipe = inputs.recipe
    with progress.step(f"check packages of {recipe.name}", len(inputs.lock.rows)) as step:
        debs = staging.checked(inputs.lock.rows, step)
        check(debs, parent)
        _closed(inputs, debs, parent)
        step.detail = f"{len(debs)} packages"
    rules = _rules(inputs)
    with progress.step(f"configure {recipe.name}"):
        tree = over(parent, debs, contents) if parent else bootstrap(debs, rules, contents)
        prepare(tree, inputs, rules)
        result = sandbox.run(
            ScriptRun(
                tree.write,
                SCRIPT,
                lambda stream: Tree(contents, read_tar(stream, contents)),
                {"SOURCE_DATE_EPOCH": str(inputs.epoch)},
                space_needed(debs, parent),
                staging.folder_of(recipe.name, debs),
            )
        )
    result.remove(PACKAGES_FOLDER)
    result.put("var/lib/apt/extended_states", _marks(inputs), mtime=inputs.epoch)
    shipped = {path: entry.mtime for path, entry in parent.entries.items()} if parent else {}
    shipped.update({member.path: member.mtime for one in debs for member in one.members})
    normalize(result, inputs.epoch, shipped)
    return result
