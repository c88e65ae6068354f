"""The image as an engine: it works, and the host is afterwards as it was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from dindkit.embedded import lifecycle
from dindkit.embedded.paths import Paths
from dindkit.engine.discover import connect
from dindkit.errors import ToolMissingError
from dindkit.image.build import Built
from dindkit.progress import Progress
from dindkit.project import Project
from tests.support.host import Host, new_host
from tests.support.small_image import small_image

pytestmark = pytest.mark.engine


@pytest.fixture
def host(project: Project, dind: Built, base: Built, tmp_path: Path) -> Iterator[Host]:
    with new_host(project, tmp_path / "state") as found:
        yield found
        found.try_verb("engine.stop", "--purge")


def client_host(host: Host) -> str:
    told = host.verb("engine.status").strip()
    assert told.startswith("export DOCKER_HOST=unix:///")
    return told.partition("=")[2]


def client(host: Host) -> docker.DockerClient:
    return connect(client_host(host), "a test").client


def work(host: Host, base: Built, folder: Path) -> None:
    """Leave behind what users leave behind: networks, published ports, containers that run on."""
    engine = connect(client_host(host), "a test")
    engine.client.images.load(small_image(base, "small"))
    (folder / "question").write_text("seen")
    engine.client.networks.create("mine", driver="bridge")
    engine.client.containers.run(
        "small", ["sleep", "infinity"], detach=True, network="mine", ports={"80/tcp": 8080}
    )
    said = engine.client.containers.run(
        "small",
        ["sh", "-c", "cat /asked/question; echo answered >/asked/answer"],
        volumes=[f"{folder}:/asked"],
        remove=True,
    )
    assert said == b"seen"
    assert (folder / "answer").read_text() == "answered\n"


@pytest.mark.parametrize("backend", ["nft", "legacy"])
def test_stop_leaves_the_host_as_it_was(host: Host, base: Built, tmp_path: Path, backend: str) -> None:
    if backend == "legacy":  # rules of the host's own decide which backend the engine takes
        host.run("iptables-legacy", "-A", "INPUT", "-s", "192.0.2.1", "-j", "DROP")
    before = host.footprint()
    started = host.verb("engine.start").strip()
    assert host.verb("engine.start").strip() == started
    work(host, base, tmp_path)
    changed = host.footprint()
    assert "link: docker0" in changed
    assert any(what.startswith(f"{backend}: ") and "DOCKER" in what for what in changed)
    host.verb("engine.stop")
    assert host.footprint() == before
    code, _, complaint = host.try_verb("engine.status")
    assert code == 1
    assert "does not run" in complaint
    host.verb("engine.stop")  # once more does no harm


def test_without_the_tree_another_clears_up(host: Host) -> None:
    before = host.footprint()
    host.verb("engine.start")
    paths = Paths(host.project)
    kept = paths.trees.rename(paths.folder / "kept")
    code, _, complaint = host.try_verb("engine.stop")
    assert code == 1
    assert "The tree that the engine was started from is gone" in complaint
    assert "Run: invoke engine.start, and then invoke engine.stop" in complaint
    kept.rename(paths.trees)
    host.verb("engine.start")
    host.verb("engine.stop")
    assert host.footprint() == before


@pytest.mark.parametrize("next_verb", ["engine.stop", "clean"])
def test_no_half_of_a_data_root_stays_of_a_purge_that_was_killed(host: Host, next_verb: str) -> None:
    """The next start would take it for a whole one, and its daemon would fail on what is missing."""
    paths = Paths(host.project)
    for number in range(100):
        folder = paths.data / f"overlay2/{number}"
        folder.mkdir(parents=True)
        for file in range(100):
            (folder / str(file)).touch()
    words = [*host.enter, *host.invoke("engine.stop", "--purge")]
    with subprocess.Popen(words, env=host.environment(), start_new_session=True) as purge:
        while not paths.deleted.exists():
            assert purge.poll() is None
        os.killpg(purge.pid, signal.SIGKILL)
    assert list(paths.deleted.rglob("*"))
    assert not paths.folder.exists()
    host.verb(next_verb)
    assert not paths.deleted.exists()
    assert not paths.folder.exists()


def test_what_it_prints_is_for_eval(host: Host) -> None:
    said = host.run(*host.invoke("engine.start"))
    seen = host.run("sh", "-c", 'eval "$1"; exec printenv DOCKER_HOST', "sh", said)
    assert connect(seen.strip(), "a test").client.ping()


def test_what_is_mounted_later_is_seen(host: Host, base: Built, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    host.run("mount", "-t", "tmpfs", "tmpfs", str(shared))
    try:
        host.run("mount", "--make-shared", str(shared))
        host.verb("engine.start")
        (shared / "later").mkdir()
        host.run("mount", "-t", "tmpfs", "tmpfs", str(shared / "later"))
        (shared / "later/file").write_text("seen")
        engine = connect(client_host(host), "a test")
        engine.client.images.load(small_image(base, "small"))
        volumes = [f"{shared / 'later'}:/asked"]
        said = engine.client.containers.run("small", ["cat", "/asked/file"], volumes=volumes, remove=True)
        assert said == b"seen"
        host.verb("engine.stop")
        assert (shared / "later/file").read_text() == "seen"
    finally:
        host.run("umount", "--recursive", str(shared))


def test_rules_that_others_made_meanwhile_stay(host: Host, base: Built, tmp_path: Path) -> None:
    host.verb("engine.start")
    work(host, base, tmp_path)
    for rule in ("-N MINE", "-A MINE -s 192.0.2.1/32 -j DROP", "-A FORWARD -j MINE"):
        host.run("iptables-nft", *rule.split())
    host.run("ip", "link", "add", "mine0", "type", "bridge")
    host.verb("engine.stop")
    rules = [line for line in host.run("iptables-nft-save").splitlines() if line.startswith("-A")]
    assert sorted(rules) == ["-A FORWARD -j MINE", "-A MINE -s 192.0.2.1/32 -j DROP"]
    assert "mine0" in host.run("cat", "/proc/net/dev")
    assert "docker0" not in host.run("cat", "/proc/net/dev")


def test_a_crash_is_cleared_up_and_data_is_kept(host: Host, base: Built, tmp_path: Path) -> None:
    before = host.footprint()
    host.verb("engine.start")
    work(host, base, tmp_path)
    identity = client(host).info()["ID"]
    _kill(host)
    code, _, complaint = host.try_verb("engine.status")
    assert code == 1
    assert "engine.stop" in complaint
    host.verb("engine.start")
    info = client(host).info()
    assert (info["ID"], info["Containers"]) == (identity, 1)
    _kill(host)
    host.verb("engine.stop", "--purge")
    assert host.footprint() == before
    assert not (host.project.state / "engine").exists()


def _kill(host: Host) -> None:
    """End every process of the engine at once, as a power cut would."""
    for procs in Path("/sys/fs/cgroup").rglob("cgroup.procs"):
        for pid in procs.read_text().split() if "dindkit-" in str(procs) else ():
            try:
                if str(host.project.state) in Path(f"/proc/{pid}/cmdline").read_text():
                    os.kill(int(pid), signal.SIGKILL)
            except (FileNotFoundError, ProcessLookupError):
                continue
    while host.processes():
        time.sleep(0.05)


def test_what_dockerd_had_not_yet_written_down_is_cleared_up(host: Host, base: Built, tmp_path: Path) -> None:
    before = host.footprint()
    host.verb("engine.start")
    work(host, base, tmp_path)
    _kill(host)
    Paths(host.project).networks.unlink()  # it makes a bridge, and rules for it, before it stores either
    host.verb("engine.stop")
    assert host.footprint() == before


def test_bridges_of_others_stay(host: Host, tmp_path: Path) -> None:
    host.run("ip", "link", "add", "docker0", "type", "bridge")
    host.run("ip", "link", "set", "docker0", "alias", "theirs")
    host.verb("engine.start")
    for name in ("br-0123456789ab", "br-mine", "br-00000000000"):
        host.run("ip", "link", "add", name, "type", "bridge")
    host.run(
        "ip", "link", "add", "port0", "master", "br-0123456789ab", "type", "veth", "peer", "name", "port1"
    )
    host.verb("engine.stop")
    left = {link["ifname"]: link.get("ifalias", "") for link in json.loads(host.run("ip", "-json", "link"))}
    assert left.keys() == {"lo", "docker0", "br-0123456789ab", "br-mine", "br-00000000000", "port0", "port1"}
    assert left["docker0"] == "theirs"


@pytest.mark.parametrize("moment", ["nothing", "create", "name_default"])
def test_a_start_that_is_killed_is_cleared_up(host: Host, moment: str) -> None:
    before = host.footprint()
    script = (
        "import os, signal; from dindkit.embedded import bridges; from invoke.main import program\n"
        "def after(function):\n"
        "    def replaced(*arguments): function(*arguments); os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return replaced\n"
        f"if hasattr(bridges, '{moment}'): bridges.{moment} = after(bridges.{moment})\n"
        "else: bridges.create = after(lambda *arguments: None)\n"
        f"program.run({['invoke', *host.invoke('engine.start')[3:]]!r})"
    )
    assert host.popen(host.invoke()[0], "-c", script)[0] == -signal.SIGKILL
    host.verb("engine.stop")
    assert host.footprint() == before


def test_the_record_of_another_version_is_named(host: Host) -> None:
    record = host.project.state / "engine/record.json"
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text('{"boot_id": "", "tree": "", "of_old": 1}')
    for verb in ("engine.stop", "engine.start"):
        code, _, complaint = host.try_verb(verb)
        assert code == 1
        assert "Another version of dindkit" in complaint
        assert "Traceback" not in complaint
    record.unlink()


def test_a_record_from_before_a_reboot_is_no_hindrance(host: Host) -> None:
    host.verb("engine.start")
    record = host.project.state / "engine/record.json"
    text = record.read_text()
    host.verb("engine.stop")
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    record.write_text(text.replace(boot_id, "00000000-0000-0000-0000-000000000000"))
    assert host.verb("engine.start").startswith("export DOCKER_HOST=")


@pytest.mark.parametrize(
    ("number", "delays"), [(signal.SIGINT, (0, 0.3, 1.2)), (signal.SIGTERM, (0.1, 0.6))], ids=["INT", "TERM"]
)
def test_an_interrupted_start_leaves_nothing(
    host: Host, number: signal.Signals, delays: tuple[float, ...]
) -> None:
    """By either signal, which end it in the same way; the moments are spread over both."""
    before = host.footprint()
    for delay in delays:
        with subprocess.Popen(
            ["nsenter", f"--net=/proc/{host.pid}/ns/net", *host.invoke("engine.start")],
            env=host.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as start:
            while not (host.project.state / "engine/record.json").exists():
                time.sleep(0.01)
            time.sleep(delay)
            start.send_signal(number)
            out, complaint = start.communicate()
        if out.startswith("export DOCKER_HOST="):  # it was done before the signal came
            host.verb("engine.stop")
        else:
            assert "interrupted" in complaint
        assert host.footprint() == before


def test_cgroup_v2_where_the_host_has_v1(host: Host, base: Built, tmp_path: Path) -> None:
    before = host.footprint()
    host.verb("engine.start", "--cgroup2")
    assert client(host).info()["CgroupVersion"] == "2"
    work(host, base, tmp_path)
    host.verb("engine.stop")
    assert host.footprint() == before


def test_a_state_folder_too_deep_for_a_socket(project: Project, dind: Built, tmp_path: Path) -> None:
    with new_host(project, tmp_path / ("deep" * 20) / ("down" * 20)) as host:
        before = host.footprint()
        host.verb("engine.start")
        assert client(host).ping()
        host.verb("engine.stop", "--purge")
        assert host.footprint() == before


def test_without_mount_it_is_a_sentence(
    project: Project, dind: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A privileged container of `base` is such a host."""
    monkeypatch.setenv("PATH", str(tmp_path))
    state = tmp_path / "state"
    with pytest.raises(ToolMissingError, match=r"^mount is not installed. Run: apt-get install mount$"):
        lifecycle.start(Project(project.root, state, project.cache), dind, Progress(quiet=True))
    assert not state.exists()
