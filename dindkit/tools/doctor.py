"""`invoke doctor`: print facts about the engine, and warn of troubles for Docker in Docker."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from docker.errors import APIError

from dindkit.embedded import cgroups
from dindkit.engine import discover, images, load, run_script, shared_paths
from dindkit.engine.discover import Engine
from dindkit.errors import EngineError
from dindkit.image.build import BuildOptions, build
from dindkit.image.build_options import resolve
from dindkit.printing import result, visible
from dindkit.progress import Progress
from dindkit.project import Project

PROBE = Path(__file__).with_name("probe.sh")
NAME_SERVERS = "sed -n 's/^nameserver //p' /etc/resolv.conf"
#: Below this MTU nested networks need a setting: containers cannot detect it.
USUAL_MTU = 1500


@dataclass
class Findings:
    """The facts by title, in the order in which they are printed, and the troubles."""

    facts: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def show(self, out: TextIO) -> None:
        """Print all of it on `out`."""
        for title, value in self.facts.items():
            result(f"{title:<16}{visible(value)}", out)
        for warning in self.warnings:
            result(f"warning: {visible(warning)}", out)


def run(
    project: Project,
    progress: Progress,
    out: TextIO,
    mount: str = "",
    *,
    found: dict[str, Any] | None = None,
) -> None:
    """Print the facts on `out`, and warn of troubles; or put both into `found`: doctor-1.json.

    `mount` is a path of this machine that the engine must see with the same content. Raises EngineError where
    it does not, with what to share, and where no engine answers; facts found until then are printed.
    """
    findings = Findings()
    try:
        _examine(project, progress, mount, findings)
    finally:
        if found is None:
            findings.show(out)
        else:
            found |= asdict(findings)


def _examine(project: Project, progress: Progress, mount: str, findings: Findings) -> None:
    facts = findings.facts
    facts["this machine"] = f"{platform.node()}, Linux {platform.release()}, {_distribution()}"
    facts["privileges"] = "root" if os.geteuid() == 0 else "not root: no engine can be booted here"
    if mount and not Path(mount).exists():
        raise EngineError(f"{mount} does not exist on this machine.", "Name a path that does.")
    engine = discover.find(project)
    if engine is None:
        facts["cgroups"] = f"version {cgroups.version()}"
        raise EngineError("No Docker engine answers.", "Start Docker or Podman, or: invoke engine.start")
    info = engine.client.info()
    _describe(engine, info, facts)
    findings.warnings += _known_troubles(info)
    image = _image(project, engine, progress)
    seen, troubles = _probe(engine, image)
    facts.update(seen)
    findings.warnings += troubles
    if mount:
        shared_paths.check(engine, Path(mount), image)
        facts["mount"] = f"the engine sees {mount} with the same content"


def _image(project: Project, engine: Engine, progress: Progress) -> str:
    """Return the id or name of our image in `engine`: the one that the lock was sealed with, if it is there.

    If it is not there it is built, or taken from the state folder, and loaded.
    """
    sealed = resolve(project, BuildOptions())[-1].lock.expected
    if sealed and images.find(engine, sealed.image_id) is not None:
        return sealed.image_id
    built = build(project, BuildOptions(), progress)
    load.load(engine, built, progress)
    return built.reference


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return platform.system()


def _describe(engine: Engine, info: dict[str, Any], facts: dict[str, str]) -> None:
    kind = "Podman" if engine.is_podman else "Docker"
    facts["engine"] = f"{kind} {info['ServerVersion']} at {engine.host} ({engine.found_by})"
    facts["its machine"] = f"{info['Name']}, {info['OperatingSystem']}, {info['KernelVersion']}"
    facts["cgroups"] = f"version {info.get('CgroupVersion', '1')}, {info.get('CgroupDriver')}"
    facts["storage"] = f"{info['Driver']} on {_backing(info)}"


def _backing(info: dict[str, Any]) -> str:
    status: dict[str, str] = dict(info.get("DriverStatus") or [])
    return status.get("Backing Filesystem", "a file system it does not name")


def _known_troubles(info: dict[str, Any]) -> list[str]:
    """Return the troubles that the engine's own description shows."""
    troubles = list(info.get("Warnings") or [])
    if info["Driver"] == "vfs":
        troubles.append("The storage driver vfs copies every layer whole: builds will be slow and large.")
    if "rootless" in str(info.get("SecurityOptions")):
        troubles.append(
            "The engine is rootless, on cgroup v1, where its user has no cgroup: a nested daemon does not"
            " start. Let its machine use cgroup v2, use the socket of this engine, or take a rootful one."
            if str(info.get("CgroupVersion", "1")) == "1"
            else "The engine is rootless: --privileged gives no more than its user has, and a nested daemon"
            " starts only where that user has a cgroup of their own (systemd's Delegate=yes)."
        )
    if str(info["ServerVersion"]).startswith("20.10."):
        troubles.append(
            "Docker 20.10 fails privileged containers where a capability is missing on its machine"
            " ('unable to apply caps'): take 23 or later."
        )
    return troubles


def _probe(engine: Engine, image: str) -> tuple[dict[str, str], list[str]]:
    """Return what a privileged container sees, and the troubles that follow."""
    try:
        output = run_script.run(engine, image, PROBE.read_text(), privileged=True, network_mode="host")
    except (APIError, EngineError) as error:
        return {"privileged": "no"}, [f"Privileged containers do not run here: {error}"]
    lines = [line.partition("=") for line in output.splitlines()]
    found = {name: value for name, _, value in lines}
    try:  # in a container, which does not get a resolver on the loopback of the machine
        found["nameservers"] = " ".join(run_script.run(engine, image, NAME_SERVERS).split())
    except (APIError, EngineError) as error:
        found["network-error"] = str(error)
    lacking = [value for name, _, value in lines if name == "lacks"]
    seen = {
        "privileged": "yes" if not lacking else f"yes, but without {', '.join(lacking)}",
        "iptables": _backend(found),
        "MTU": found.get("mtu", "no default route"),
        "DNS": found.get("nameservers") or "no name server",
    }
    return seen, _probed_troubles(found)


def _backend(found: dict[str, str]) -> str:
    holding = [name for name in ("nft", "legacy") if int(found.get(name, "0"))]
    return f"{' and '.join(holding)} (it holds Docker's rules)" if holding else "no rules of Docker's"


def _probed_troubles(found: dict[str, str]) -> list[str]:
    troubles = []
    mtu = found.get("mtu", "")
    if mtu and int(mtu.split()[0]) < USUAL_MTU:
        troubles.append(
            f"The MTU is {mtu}: this image passes it on to nested networks, others need --mtu and"
            " --default-network-opt."
        )
    if "nft" in found and "legacy" in found and int(found["nft"]) and int(found["legacy"]):
        troubles.append(
            "Docker's rules are in both iptables backends: restart the engine after removing one."
        )
    if "nft-error" in found and "legacy" not in found:
        troubles.append(f"iptables does not work on the engine's machine: {found['nft-error']}")
    if "network-error" in found:
        troubles.append(f"Containers on the default network do not run here: {found['network-error']}")
    servers = found.get("nameservers", "").split()
    if servers and all(server.startswith("127.") for server in servers):
        troubles.append(
            f"The engine's only name server is {servers[0]}, which nested containers cannot reach: give the"
            " daemon DIND_DNS."
        )
    if "ipvs" not in found:
        troubles.append(
            "The kernel has no IPVS: Swarm services need --endpoint-mode dnsrr, and publish no ports"
            " through the routing mesh."
        )
    return troubles
