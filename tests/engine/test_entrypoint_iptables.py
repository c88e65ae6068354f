"""Which backend of iptables is chosen, and what happens when none works."""

from __future__ import annotations

import pytest

from tests.engine.dind import Containers, Dind

pytestmark = pytest.mark.engine

#: Stands in for a backend whose kernel modules cannot be had.
BROKEN = '#!/bin/sh\necho "$0: Table does not exist (do you need to insmod?)" >&2\nexit 3\n'

NFT, LEGACY = "/usr/sbin/iptables-nft", "/usr/sbin/iptables-legacy"


def choice(dind: Dind) -> str:
    (line,) = (line for line in dind.said() if "iptables:" in line)
    return line.removeprefix("dind: iptables: ")


def after(script: str) -> dict[str, object]:
    """Options for a container that runs a script before the entrypoint."""
    return {"entrypoint": ["sh", "-ec", f'{script}\nexec dockerd-entrypoint.sh "$@"', "sh"]}


def works(dind: Dind, backend: str) -> bool:
    """Whether the daemon's rules are in that backend, and in no other."""
    other = {"nft": "legacy", "legacy": "nft"}[backend]
    return "-N DOCKER" in dind(f"iptables-{backend} -t nat -S") and "-N DOCKER" not in dind(
        f"iptables-{other} -t nat -S 2>/dev/null || :"
    ).split("\n")


@pytest.mark.parametrize(
    ("environment", "script", "files", "backend", "why"),
    [
        ({}, "", {}, "nft", "it works"),
        ({}, f"{NFT} -t nat -N MINE", {}, "nft", "it works"),
        ({}, f"{LEGACY} -t nat -N MINE", {}, "legacy", "it holds rules already"),
        ({}, "", {NFT: BROKEN}, "legacy", "the other one does not work"),
        ({}, "", {LEGACY: BROKEN}, "nft", "it works"),
        ({}, f"{LEGACY} -t nat -N MINE; echo '{BROKEN}' >{LEGACY}", {}, "nft", "the other one does not work"),
        ({"DOCKER_IPTABLES_LEGACY": "1"}, "", {}, "legacy", "DOCKER_IPTABLES_LEGACY"),
        ({"DOCKER_IPTABLES_LEGACY": ""}, f"{LEGACY} -t nat -N MINE", {}, "nft", "DOCKER_IPTABLES_LEGACY"),
    ],
    ids=["neither", "rules in nft", "rules in legacy", "nft broken", "legacy broken",
         "legacy with rules broken", "told legacy", "told nft"],
)  # fmt: skip
def test_choice(
    containers: Containers,
    environment: dict[str, str],
    script: str,
    files: dict[str, str],
    backend: str,
    why: str,
) -> None:
    links = " ".join(files)
    prepare = f"for file in {links}; do rm $file; done" if files else ":"
    # The programs are links to one binary, and must not be written through.
    copies = "".join(f"\nrm -f {path}; cp /run/broken {path}" for path in files)
    dind = containers.daemon(
        environment=environment,
        files={"/run/broken": BROKEN},
        **after(f"{prepare}{copies}\nrm -f /run/none\n{script}"),
    )
    assert choice(dind) == f"{backend} ({why})."
    if not files and "echo" not in script and "told nft" not in why:
        assert works(dind, backend)


def test_nested_containers_reach_out_on_both(containers: Containers) -> None:
    for legacy in ("", "1"):
        dind = containers.daemon(environment={"DOCKER_IPTABLES_LEGACY": legacy}).load(containers.base)
        outer = dind("ip -4 route show default | cut -d' ' -f3")
        assert dind.nested(f"bash -c 'exec 3<>/dev/udp/{outer}/9 && echo sent'") == "sent"
        assert works(dind, "legacy" if legacy else "nft")


def test_neither_works(containers: Containers) -> None:
    script = f"for f in {NFT} {LEGACY}; do rm $f; cp /run/broken $f; done"
    code, output, seconds = containers.answer(files={"/run/broken": BROKEN}, **after(script))
    assert code == 1
    assert seconds < 10
    (line,) = (line for line in output.splitlines() if line.startswith("dind: error"))
    assert "iptables-nft says: " in line
    assert "iptables-legacy says: " in line
    assert "do you need to insmod?" in line
    kernel = containers.engine.client.info()["KernelVersion"]
    assert kernel in line


def test_the_told_one_does_not_work(containers: Containers) -> None:
    script = f"rm {LEGACY}; cp /run/broken {LEGACY}"
    code, output, _ = containers.answer(
        files={"/run/broken": BROKEN}, environment={"DOCKER_IPTABLES_LEGACY": "1"}, **after(script)
    )
    assert code == 1
    assert "iptables-legacy says: " in output
    assert "iptables-nft says: " not in output


def test_a_daemon_without_iptables_needs_none(containers: Containers) -> None:
    script = f"for f in {NFT} {LEGACY}; do rm $f; cp /run/broken $f; done"
    broken = {"/run/broken": BROKEN}
    containers.daemon("--iptables=false", "--ip6tables=false", files=broken, **after(script))
    daemon_json = {"/etc/docker/daemon.json": '{"iptables": false, "ip6tables": false}'}
    containers.daemon(files=broken | daemon_json, **after(script))


def test_legacy_is_not_listed_first(containers: Containers) -> None:
    """Listing would load its modules, and so change the answer for the next who asks."""
    listed = f"rm {LEGACY}; ln -s /run/tell {LEGACY}"
    tell = "#!/bin/sh\necho legacy was listed >&2\nexit 3\n"
    dind = containers.daemon(files={"/run/tell": tell}, **after(listed))
    assert "legacy was listed" not in dind.log()
