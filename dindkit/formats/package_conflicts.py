"""Refuse packages where a path of one leads through a symbolic link of another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from dindkit.formats.deb import Deb, DebError

#: The links that Debian's base-files ships since /usr was merged, exactly; paths of other packages may lead
#: through them.
MERGED = {name: f"usr/{name}" for name in ("bin", "sbin", "lib", "lib32", "lib64", "libo32", "libx32")}


def canonical(path: str) -> str:
    """Return the path of a package's file in a tree with merged /usr: `usr/lib/x` for `lib/x`."""
    top, slash, rest = path.partition("/")
    return f"{MERGED[top]}/{rest}" if slash and top in MERGED else path


def _parents(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path


def _links(debs: Sequence[Deb], present: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return owner and target of every link but those of merged /usr, at its own and its canonical path."""
    all_links = [("the parent image", path, target) for path, target in present.items()]
    all_links += [
        (deb.name, one.path, one.link) for deb in debs for one in deb.members if one.kind == "symlink"
    ]
    found: dict[str, tuple[str, str]] = {}
    for owner, path, target in all_links:
        if MERGED.get(path) != target:
            found[path] = found[canonical(path)] = (owner, target)
    return found


def check_together(debs: Sequence[Deb], present: Mapping[str, str]) -> None:
    """Refuse packages where a path of one leads through a symbolic link of another, or of its own.

    `present` are the links (path -> target) of the tree that the packages are put into. Only the links of
    merged /usr may be followed so; two paths that are one file by these links are compared as one. Raises
    DebError.
    """
    links = _links(debs, present)
    for deb in debs:
        for member in deb.members:
            for parent in (*_parents(member.path), *_parents(canonical(member.path))):
                if parent in links:
                    owner, target = links[parent]
                    raise DebError(
                        deb.name,
                        f"its path {member.path} leads through the link {parent} of {owner}, to {target}",
                    )
