"""The bridges of an engine, told apart from those of others at every moment.

dockerd names a bridge in its store only after it has made it: an engine that is killed in between leaves one
that nothing names. So docker0 is made here, under a name that nobody else uses, its index is recorded, and
only then is it called docker0. dockerd takes over a docker0 that is there.
"""

from __future__ import annotations

import json
import re
import socket
from dataclasses import dataclass
from pathlib import Path

from dindkit.embedded.packet_filter import Run

DEFAULT = "docker0"
#: Link alias of a docker0 that is ours, for the image's entrypoint.
MARK = "dind"
#: What dockerd calls the bridge of a network, unless the user names it.
OF_NETWORK = re.compile(r"br-[0-9a-f]{12}|docker_gwbridge")
#: Sockets in a row of /proc/net/unix: `00010000` are the flags of one that listens.
DAEMON_SOCKET = re.compile(r" 00010000 .*(/libnetwork/[^/]*\.sock|/docker/metrics\.sock)$", re.MULTILINE)


@dataclass(frozen=True)
class Known:
    """What tells an engine's bridges from others.

    `unnamed` is what its docker0 is called before it is docker0, `index` that link's index (0: none was
    made), `store` dockerd's database of networks.
    """

    unnamed: str
    index: int
    store: Path


def links() -> list[str]:
    """Return the names of all links in this network namespace."""
    return [name for _, name in socket.if_nameindex()]


def create(run: Run, unnamed: str) -> int:
    """Make the bridge that will be docker0, as `unnamed` and with our mark; return its index."""
    # As dockerd sets it: a bridge without an address of its own changes it with each container that comes.
    address = "02:42:" + ":".join(f"{byte:02x}" for byte in unnamed.encode()[-4:])
    batch = f"link add name {unnamed} address {address} type bridge\nlink set dev {unnamed} alias {MARK}\n"
    run(["ip", "-batch", "-"], batch.encode())
    advertisements = Path("/proc/sys/net/ipv6/conf", unnamed, "accept_ra")
    if advertisements.exists():
        advertisements.write_text("0")
    return socket.if_nametoindex(unnamed)


def name_default(run: Run, unnamed: str) -> None:
    """Call the bridge `unnamed` docker0, and switch it on; raises CommandError where there is a docker0."""
    run(["ip", "-batch", "-"], f"link set dev {unnamed} name {DEFAULT}\nlink set dev {DEFAULT} up\n".encode())


def of_engine(run: Run, before: list[str], known: Known) -> list[str]:
    """Return the names of the engine's bridges; `before` names the links that were there before it started.

    No process of the engine may be left. A network's bridge that was made and not yet stored when the engine
    ended has dockerd's kind of name, nothing is connected to it, and no other dockerd is there to own it.
    """
    store = known.store.read_bytes() if known.store.exists() else b""
    alone = DAEMON_SOCKET.search(Path("/proc/net/unix").read_text()) is None
    found = json.loads(run(["ip", "-json", "link"], b"") or b"[]")
    in_use = {link.get("master") for link in found}
    names = []
    for name, index in ((link["ifname"], link["ifindex"]) for link in found):
        if name == known.unnamed or index == known.index:
            names.append(name)
        elif name not in before and name != DEFAULT:
            stored = f'"BridgeName":"{name}"'.encode() in store
            forgotten = alone and name not in in_use and OF_NETWORK.fullmatch(name)
            names += [name] if stored or forgotten else []
    return names
