"""Find and remove the rules that a Docker engine has added to the host's packet filter.

Rules are read and written with the image's own iptables, as the text of iptables-save(8), for both backends.
"""

from __future__ import annotations

import contextlib
import ipaddress
import shlex
import socket
import struct
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from dindkit.process import CommandError

#: Runs a program of the image in the host's network namespace: argument list and standard input to output.
Run = Callable[[list[str], bytes], bytes]

#: Where the kernel lists its legacy tables. iptables-legacy would create them by asking.
LEGACY = {"iptables-legacy": "/proc/net/ip_tables_names", "ip6tables-legacy": "/proc/net/ip6_tables_names"}
NFT = {"iptables-nft": socket.AF_INET, "ip6tables-nft": socket.AF_INET6}


@dataclass
class Table:
    """One table: chains with their policy (`-` for those not built in), and rules as `-A …` lines."""

    chains: dict[str, str] = field(default_factory=dict)
    rules: list[str] = field(default_factory=list)


def read(run: Run) -> dict[str, str]:
    """Return the rules of each backend, as iptables-save(8) writes them."""
    legacy = [program for program, names in LEGACY.items() if _names(names)]
    return {program: run([f"{program}-save"], b"").decode() for program in (*NFT, *legacy)}


def _names(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def parse(text: str) -> dict[str, Table]:
    """Return the tables of an iptables-save(8) text by name."""
    tables: dict[str, Table] = {}
    table = Table()
    for line in text.splitlines():
        if line.startswith("*"):
            table = tables.setdefault(line[1:], Table())
        elif line.startswith(":"):
            chain, policy = line[1:].split()[:2]
            table.chains[chain] = policy
        elif line.startswith("-A "):
            table.rules.append(line)
    return tables


def take_away(
    run: Run, before: dict[str, str], bridges: Collection[str], subnets: Collection[ipaddress.IPv4Network]
) -> None:
    """Remove Docker's rules and chains that were not there `before`, and nothing else.

    Docker's are chains whose names begin with DOCKER, and rules that name one of these, one of `bridges`, or
    an address in one of `subnets`. A policy that has changed is restored.
    """
    for program, text in read(run).items():
        old = parse(before.get(program, ""))
        for name, table in parse(text).items():
            batch = _undo(name, old.get(name, Table()), table, bridges, subnets)
            if batch:
                run([f"{program}-restore", "--noflush"], batch.encode())
            if program in NFT:
                _drop_empty(run, program, name, old.get(name))


def _undo(
    name: str,
    old: Table,
    new: Table,
    bridges: Collection[str],
    subnets: Collection[ipaddress.IPv4Network],
) -> str:
    chains = [chain for chain in new.chains if chain.startswith("DOCKER") and chain not in old.chains]
    added = Counter(new.rules) - Counter(old.rules)
    rules = [
        rule
        for rule in added.elements()
        if rule.split()[1] not in chains and _is_dockers(rule, bridges, subnets)
    ]
    lines = [f"-D {rule.removeprefix('-A ')}" for rule in rules]
    lines += [f"-F {chain}" for chain in chains] + [f"-X {chain}" for chain in chains]
    # Docker sets the policy of FORWARD to DROP where it enables forwarding.
    if "FORWARD" in new.chains:
        policy = old.chains.get("FORWARD", "ACCEPT")
        lines += [f"-P FORWARD {policy}"] if new.chains["FORWARD"] != policy else []
    return "\n".join([f"*{name}", *lines, "COMMIT", ""]) if lines else ""


def _is_dockers(rule: str, bridges: Collection[str], subnets: Collection[ipaddress.IPv4Network]) -> bool:
    return any(
        word.startswith("DOCKER") or word in bridges or _is_inside(word, subnets)
        for word in shlex.split(rule)
    )


def _is_inside(word: str, subnets: Collection[ipaddress.IPv4Network]) -> bool:
    try:
        address = ipaddress.IPv4Network(word)
    except ValueError:
        return False
    return any(address.subnet_of(subnet) for subnet in subnets)


def _drop_empty(run: Run, program: str, name: str, old: Table | None) -> None:
    """Remove the empty built-in chains and the empty table that iptables-nft has made."""
    now = parse(run([f"{program}-save", "-t", name], b"").decode()).get(name, Table())
    for chain in now.chains:
        if old is None or chain not in old.chains:
            with contextlib.suppress(CommandError):  # never made, or used by somebody else by now
                run([program, "-t", name, "-X", chain], b"")
    if old is None:
        _delete_table(NFT[program], name)


def _delete_table(family: int, name: str) -> None:
    """Delete an nftables table if it is empty. iptables has no command for this, and nft is not in the image.

    NLM_F_NONREC makes the kernel refuse a table that is not empty. The messages follow
    linux/netfilter/nfnetlink.h and nf_tables.h.
    """
    request, ack, nonrec = 0x1, 0x4, 0x100
    batch_begin, batch_end, delete_table = 0x10, 0x11, (10 << 8) | 2
    raw = name.encode() + b"\0"
    attribute = struct.pack("=HH", 4 + len(raw), 1) + raw + b"\0" * (-len(raw) % 4)

    def message(kind: int, flags: int, family: int, resource: int, payload: bytes = b"") -> bytes:
        body = struct.pack("=BBH", family, 0, socket.htons(resource)) + payload
        return struct.pack("=IHHII", 16 + len(body), kind, request | flags, 0, 0) + body

    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as netlink:  # 12: NETLINK_NETFILTER
        netlink.settimeout(1)
        netlink.send(
            message(batch_begin, 0, socket.AF_UNSPEC, 10)
            + message(delete_table, ack | nonrec, family, 0, attribute)
            + message(batch_end, 0, socket.AF_UNSPEC, 10)
        )
        netlink.recv(4096)  # the kernel's answer; a refusal is fine
