"""The host's network state (links, packet filter, kernel settings): read before a start, restored after."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass
from pathlib import Path

from dindkit.embedded import bridges, packet_filter
from dindkit.embedded.bridges import Known
from dindkit.embedded.packet_filter import Run

#: Kernel settings that dockerd and its network drivers change for the whole network namespace or host.
SETTINGS = (
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "net/bridge/bridge-nf-call-ip6tables",
    "net/bridge/bridge-nf-call-iptables",
    "net/ipv4/conf/default/route_localnet",
    "net/ipv4/ip_forward",
    "net/ipv4/neigh/default/gc_thresh1",
    "net/ipv4/neigh/default/gc_thresh2",
    "net/ipv4/neigh/default/gc_thresh3",
    "net/ipv6/conf/all/forwarding",
    "net/ipv6/conf/default/forwarding",
)


@dataclass(frozen=True)
class HostState:
    """The state of this network namespace before an engine started in it."""

    namespace: str
    links: list[str]
    settings: dict[str, str]
    rules: dict[str, str]


def namespace() -> str:
    """Return the name of this process's network namespace, as `net:[4026531840]`."""
    return str(Path("/proc/self/ns/net").readlink())


def read(run: Run) -> HostState:
    """Return the present state."""
    settings = {name: _setting(name).read_text() for name in SETTINGS if _setting(name).exists()}
    return HostState(namespace(), bridges.links(), settings, packet_filter.read(run))


def restore(before: HostState, run: Run, known: Known) -> None:
    """Remove what the engine with the bridges `known` has added; it must have ended."""
    ours = bridges.of_engine(run, before.links, known)
    packet_filter.take_away(run, before.rules, ours, _subnets(run, ours))
    for name in ours:
        run(["ip", "link", "delete", name], b"")
    for name, value in before.settings.items():
        if _setting(name).read_text() != value:
            _setting(name).write_text(value)


def _setting(name: str) -> Path:
    return Path("/proc/sys", name)


def _subnets(run: Run, names: list[str]) -> list[ipaddress.IPv4Network]:
    return [
        ipaddress.IPv4Interface(f"{address['local']}/{address['prefixlen']}").network
        for link in json.loads(run(["ip", "-json", "-4", "address"], b"") or b"[]")
        if link["ifname"] in names
        for address in link["addr_info"]
    ]
