"""Tell the bridges of the embedded engine from those of others.

dockerd writes a bridge into its store only after it has made it.

If it is killed in between, nothing says whose bridge this is. So docker0 is made here under a unique name,
its index is recorded, and only then it is renamed to docker0. dockerd uses a docker0 that exists.
"""

from __future__ import annotations

import json
import re
import socket
from dataclasses import dataclass
from pathlib import Path

from dindkit.embedded.packet_filter import Run

DEFAULT = "docker0"
#: Link alias of our docker0, by which the image's entrypoint knows it.
MARK = "dind"
#: dockerd's names for the bridges of networks, unless the user chooses one.
OF_NETWORK = re.compile(r"br-[0-9a-f]{12}|docker_gwbridge")
#: Sockets in a row of /proc/net/unix: `00010000` are the flags of one that listens.
DAEMON_SOCKET = re.compile(r" 00010000 .*(/libnetwork/[^/]*\.sock|/docker/metrics\.sock)$", re.MULTILINE)


@dataclass(frozen=True)
class Known:
    """How to recognise the bridges of an engine.

    `unnamed` is the first name of its docker0, `index` the index of that link (0: it was not made), `store`
    dockerd's database of networks.
    """

    unnamed: str
    index: int
    store: Path


def links() -> list[str]:
    """Return the names of all links in this network namespace."""
    return [name for _, name in socket.if_nameindex()]


def create(run: Run, unnamed: str) -> int:
    """Make the bridge that will be docker0, with the name `unnamed` and our mark; return its index."""
    # Like dockerd: without a fixed address, a bridge's address changes with each new container.
    address = "02:42:" + ":".join(f"{byte:02x}" for byte in unnamed.encode()[-4:])
    batch = f"link add name {unnamed} address {address} type bridge\nlink set dev {unnamed} alias {MARK}\n"
    run(["ip", "-batch", "-"], batch.encode())
    advertisements = Path("/proc/sys/net/ipv6/conf", unnamed, "accept_ra")
    if advertisements.exists():
        advertisements.write_text("0")
    return socket.if_nametoindex(unnamed)


def name_default(run: Run, unnamed: str) -> None:
    """Rename the bridge `unnamed` to docker0, and set it up; raises CommandError where docker0 exists."""
    run(["ip", "-batch", "-"], f"link set dev {unnamed} name {DEFAULT}\nlink set dev {DEFAULT} up\n".encode())


def of_engine(run: Run, before: list[str], known: Known) -> list[str]:
    """Return the names of the engine's bridges; `before` names the links that were there before it started.

    All processes of the engine must have ended. A network's bridge that is not yet in the store is recognised
    by three things: it has one of dockerd's names, nothing is connected to it, and no other dockerd runs.
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
