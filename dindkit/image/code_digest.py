"""The digest of the code that can change what a build makes; part of the keys of the state folder."""

from __future__ import annotations

import ast
import functools
import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dindkit.errors import DindkitError
from dindkit.files import replacing
from dindkit.project import Project

#: The folder of this package, and its name.
PACKAGE = Path(__file__).parents[1]
NAME = PACKAGE.name


#: A build may use this module too, without importing it: dindkit.sandbox.choice passes it in.
HANDED_IN = f"{NAME}.sandbox.container"


def digest(project: Project, entry: str) -> str:
    """Return the SHA-256 of all code that the module `entry` (`dindkit.image.make_image`, say) can run.

    Hashed are the syntax trees of `entry`, of HANDED_IN, and of all modules of this package that these
    import, directly or not, at their top or in a function. Nothing else of this package can run: modules are
    only loaded by import statements, and a test checks that. Comments, docstrings and line numbers are left
    out, as they do not change what runs. Other packages do not decide a layer's bytes: decompressors give
    back what was compressed, and tar headers are written here.

    Parsing takes a tenth of a second, so the result is kept in the state folder under the SHA-256 of the
    sources. An attacker who can write there gains nothing by a wrong digest: the images that are looked up
    with it lie in the same folder, and are checked against the ids in the locks.
    """
    sources = _sources(PACKAGE)
    plain = hashlib.sha256(f"{sys.version} {entry}".encode())
    for name, text in sorted(sources.items()):
        plain.update(f"\n{name} {hashlib.sha256(text).hexdigest()}".encode())
    kept = project.state / "code" / plain.hexdigest()
    try:
        found = kept.read_text("ascii")
    except FileNotFoundError:
        found = _digest(sources, entry)
        with replacing(kept) as file:
            file.write(found.encode())
    return found


def require_unchanged(entry: str) -> None:
    """Raise DindkitError where the code that `entry` can run is no longer what the digest was made of.

    Modules that were imported do not change in a process. But some are imported late, and the sandbox's
    worker is a process of its own, which runs what is on the disk then.
    """
    before, now = _sources(PACKAGE), _sources.__wrapped__(PACKAGE)
    if now != before and _digest(now, entry) != _digest(before, entry):
        names = sorted(name for name in now.keys() | before.keys() if now.get(name) != before.get(name))
        raise DindkitError(
            f"The program was changed while it ran: {', '.join(names[:3])}.",
            "Run the command again: what it has made is not kept.",
        )


@functools.cache
def _sources(package: Path) -> dict[str, bytes]:
    """Return the text of every module in the folder `package`, by name, as this process has found them first.

    They are what runs, and `require_unchanged` sees to that.
    """
    found = {}
    for path in package.rglob("*.py"):
        words = [NAME, *path.relative_to(package).with_suffix("").parts]
        found[".".join(words).removesuffix(".__init__")] = path.read_bytes()
    return found


def _digest(sources: dict[str, bytes], entry: str) -> str:
    whole = hashlib.sha256()
    for name, module in sorted(modules(sources, entry).items()):
        whole.update(f"{name} {module.digest}\n".encode())
    return whole.hexdigest()


@dataclass(frozen=True)
class Module:
    """What a module's text comes to: the SHA-256 of its syntax tree, and the names that it imports."""

    digest: str
    #: They may be modules.
    imported: tuple[str, ...]


def modules(sources: dict[str, bytes], entry: str) -> dict[str, Module]:
    """Return `entry` and all that it imports of `sources`, by name."""
    found: dict[str, Module] = {}
    waiting = [entry, HANDED_IN]
    while waiting:
        name = waiting.pop()
        if name in sources and name not in found:
            found[name] = _module(sources[name])
            waiting += found[name].imported
            waiting.append(name.rpartition(".")[0])  # Python runs a package's __init__ before its modules
    return found


@functools.cache
def _module(text: bytes) -> Module:
    """Parse a module; once for each text, since most modules belong to more than one digest."""
    tree = ast.parse(text)
    imported = tuple(_imported(tree))
    _drop_docstrings(tree)
    return Module(hashlib.sha256(ast.dump(tree).encode()).hexdigest(), imported)


def _imported(tree: ast.AST) -> Iterator[str]:
    """Yield the imported names, which may be modules; imports for type checkers alone are left out."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif not isinstance(node, ast.expr):  # no expression has a statement in it
            yield from _imported(node)


def _drop_docstrings(tree: ast.Module) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            match node.body:
                case [ast.Expr(ast.Constant(str())), *_]:
                    node.body[0] = ast.Pass()
