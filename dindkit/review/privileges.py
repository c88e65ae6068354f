"""What a tree lets its users do: set-uid and set-gid files, capabilities, accounts, ports."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from dindkit.formats.capabilities import decode
from dindkit.formats.entry import Entry
from dindkit.formats.tree import Tree
from dindkit.review.dpkg_database import Database, PathResolver
from dindkit.review.report import Port, Privilege, User

#: In a report: no password is accepted.
LOCKED = "locked"
#: A hash of crypt(5); by shadow(5), with anything else no password is accepted.
_HASHED = re.compile(r"\$.+|_.{19}|[./0-9A-Za-z]{13}")
#: The password field of /etc/passwd where /etc/shadow has the password.
SHADOWED = "x"


def privileges(tree: Tree, database: Database) -> Iterator[Privilege]:
    """Yield every set-uid or set-gid program, every file with capabilities, and what everybody may write."""
    for path in tree.paths():
        entry = tree.entries[path]
        for what in _powers(entry):
            owner = f"{entry.uid}:{entry.gid}"
            yield Privilege(f"/{path}", what, f"{entry.mode:04o}", owner, database.owner(path))


def _powers(entry: Entry) -> Iterator[str]:
    if entry.kind == "file" and entry.mode & 0o4000:
        yield f"set-uid {'root' if entry.uid == 0 else entry.uid}"
    if entry.kind == "file" and entry.mode & 0o2000:
        yield f"set-gid {'root' if entry.gid == 0 else entry.gid}"
    if entry.capability:
        yield decode(entry.capability)
    if entry.kind in ("file", "dir") and entry.mode & 0o1002 == 0o0002:
        yield "writable by everybody"


def users(tree: Tree) -> Iterator[User]:
    """Yield the accounts of /etc/passwd, with what /etc/shadow says about their passwords."""
    shadow = {line[0]: line[1] for line in _lines(tree, "etc/shadow") if len(line) > 1}
    groups = [(line[0], line[3].split(",")) for line in _lines(tree, "etc/group") if len(line) == 4]
    for line in _lines(tree, "etc/passwd"):
        if len(line) == 7 and _is_id(line[2]) and _is_id(line[3]):
            name, field, uid, gid, _, home, shell = line
            member_of = tuple(group for group, members in groups if name in members)
            state = _password(shadow.get(name, "*") if field == SHADOWED else field)
            yield User(name, int(uid), int(gid), home, shell, state, member_of)


def _is_id(field: str) -> bool:
    return field.isascii() and field.isdigit() and len(field) <= 10


def _lines(tree: Tree, path: str) -> list[list[str]]:
    return [line.split(":") for line in tree.text(path).splitlines() if line]


def _password(field: str) -> str:
    if not field:
        return "none"
    return "set" if _HASHED.fullmatch(field) else LOCKED


def ports(tree: Tree, resolve: PathResolver, config: Mapping[str, Any]) -> Iterator[Port]:
    """Yield the ports that the image exposes, and the sockets that enabled units would open."""
    exposed = config.get("ExposedPorts")
    for port in sorted(exposed) if isinstance(exposed, dict) else ():
        yield Port(port, "EXPOSE in the image's configuration: the entrypoint decides which of them it opens")
    init = "usr/lib/systemd/systemd" in tree.entries
    for path in tree.below("etc/systemd/system/sockets.target.wants"):
        unit = path.rpartition("/")[2]
        for listen in re.findall(r"(?m)^Listen\w+=(.+)$", tree.text(resolve.target(path))):
            yield Port(
                listen, f"{unit} is enabled" + ("" if init else ", but the image has no systemd to start it")
            )
