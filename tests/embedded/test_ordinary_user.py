"""The engine of a user who is not root: it boots, runs Docker three levels deep, and goes without a trace."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from dindkit.engine.discover import Engine, connect
from dindkit.image.build import Built
from dindkit.progress import Progress
from dindkit.project import Project
from dindkit.sandbox.namespaces import RUN_IN_USER_NAMESPACE
from tests.engine.dind import until
from tests.support.host import Host, copy_built, new_host
from tests.support.ordinary_user import FIRST, HERE, LAST, OrdinaryUser, new_user
from tests.support.small_image import small_image
from tests.support.suites import build_image

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make a user"),
]

#: The folders of what was built.
BUILT = ("code", "images", "layers", "packages")
#: An address of the host that is no loopback, and a server there.
ADDRESS = "192.0.2.1"
WEB = (
    "import http.server as h; h.SimpleHTTPRequestHandler.log_message = lambda *_: None;"
    f" h.HTTPServer(('{ADDRESS}', 8000), h.SimpleHTTPRequestHandler).serve_forever()"
)
#: A server in a container.
SERVE = (
    "use Socket; socket(S, PF_INET, SOCK_STREAM, 0); bind(S, sockaddr_in(80, INADDR_ANY)); listen(S, 5);"
    ' while (accept(C, S)) { syswrite(C, "answered\\n"); close(C) }'
)
#: Asks a server for its first line, in bash.
ASK = "exec 3<>/dev/tcp/{}/{} && printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 && head -n 1 <&3"


@dataclass(frozen=True)
class UsersHost:
    """A host in which a user has the images that root has built."""

    host: Host
    user: OrdinaryUser

    @property
    def state(self) -> Path:
        return self.host.project.state

    def popen(self, *arguments: str, before: str = "") -> subprocess.Popen[str]:
        """Start a verb as the user; `before` is run first, as root in the mount namespace."""
        plain = ["env", "PATH=/usr/local/bin:/usr/bin:/bin"]  # without the sbin folders, as users have it
        argv = [*plain, self.user.python, "-m", "dindkit.command_line"]
        argv += ["--search-root", f"{self.user.place}/checkout"]
        setup = f'mount --bind "{self.user.place}/tun" /dev/net/tun\n{before}'
        environment = {
            "DINDKIT_CACHE": str(self.host.project.cache),
            "DINDKIT_STATE": str(self.state),
            "DOCKER_CONFIG": str(self.user.home / "docker"),
            "LC_ALL": "C.UTF-8",
            "SETUP": setup,
            "PATH": os.environ["PATH"],
            **self.user.environment(),
        }
        return subprocess.Popen(
            [*self.host.enter, *self.user.command(*argv, *arguments)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def invoke(self, *arguments: str, before: str = "") -> tuple[int, str, str]:
        """Run a verb as the user; return its exit code, its results and the rest."""
        running = self.popen(*arguments, before=before)
        out, said = running.communicate(timeout=600)
        return running.returncode, out, said

    def run(self, *arguments: str) -> tuple[str, str]:
        code, out, said = self.invoke(*arguments)
        assert code == 0, said
        return out, said

    def engine(self) -> Engine:
        return connect(self.run("engine.status")[0].strip().partition("=")[2], "a test")

    def footprint(self) -> set[str]:
        """Return all that must be the same before and after."""
        theirs = ["(", "-user", self.user.name, "-o", "-uid", f"+{FIRST - 1}", "-uid", f"-{LAST + 1}", ")"]
        places = [str(self.user.place), "/tmp", "/run"]
        files = self.host.run("find", *places, "-maxdepth", "1", *theirs, check=False).splitlines()
        return self.host.footprint() | set(files) | set(self.user.processes())

    def kept(self) -> set[str]:
        """Return what is in the engine's folder."""
        return {path.name for path in (self.state / "engine").iterdir()}


@pytest.fixture(scope="module")
def user(project: Project, dind: Built, base: Built, pytestconfig: pytest.Config) -> Iterator[OrdinaryUser]:
    """Make a user who has the images, and has built nothing."""
    rootless = build_image(project, "dind-rootless", pytestconfig.getoption("--suite"), Progress(quiet=True))
    with new_user() as made:
        copy_built(project, made.home / "state", base, dind, rootless)
        made.own(made.home)
        subprocess.run(["mknod", made.place / "tun", "c", "10", "200"], check=True)
        yield made


@pytest.fixture
def there(project: Project, user: OrdinaryUser, tmp_path: Path) -> Iterator[UsersHost]:
    (user.place / "tun").chmod(0o666)
    with new_host(project, tmp_path / "root") as host:
        host.run("ip", "link", "add", "outside", "type", "bridge")
        host.run("ip", "address", "add", f"{ADDRESS}/24", "dev", "outside")
        host.run("ip", "link", "set", "outside", "up")
        users = replace(host, project=Project(HERE, user.home / "state", user.home / "cache"))
        found = UsersHost(users, user)
        try:
            yield found
        finally:
            found.invoke("engine.stop")


def close_tunnel(there: UsersHost) -> None:
    """Let no user write to /dev/net/tun, as where there is no udev."""
    (there.user.place / "tun").chmod(0o600)


#: Puts cgroup v2 in the place of what this machine has.
VERSION_2 = "umount --recursive /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup"


@pytest.mark.parametrize("cgroups", ["the machine's", pytest.param("version 2", marks=pytest.mark.full)])
def test_three_levels_and_nothing_is_left(there: UsersHost, cgroups: str) -> None:
    before = there.footprint()
    code, out, said = there.invoke("smoke", before=VERSION_2 if cgroups == "version 2" else "")
    assert code == 0, said
    assert "An ordinary user's engine is dind-rootless" in said
    assert [line.split()[:4] for line in said.splitlines() if line.startswith("hello from")] == [
        ["hello", "from", "level", level] for level in "012"
    ]
    assert out.startswith("nested: passed on unix:///")
    assert there.footprint() == before
    assert there.kept() == {"data", "engine.log", "trees"}


def test_containers_work_and_have_a_network(there: UsersHost, base: Built, tmp_path: Path) -> None:
    before = there.footprint()
    started, _ = there.run("engine.start")
    assert there.run("engine.start")[0] == started
    client = there.engine().client
    client.images.load(small_image(base, "small"))
    shared = there.user.home / "shared"
    shared.mkdir()
    there.user.own(shared)
    written = ["sh", "-c", "echo written >/asked/answer"]
    client.containers.run("small", written, volumes=[f"{shared}:/asked"], remove=True)
    assert (shared / "answer").stat().st_uid == shared.stat().st_uid
    with subprocess.Popen([*there.host.enter, "python3", "-c", WEB], cwd=tmp_path) as server:
        try:
            ask = ASK.format(ADDRESS, 8000)
            assert until(lambda: " 200 OK" in there.host.run("bash", "-c", ask, check=False))
            assert b" 200 OK" in client.containers.run("small", ["bash", "-c", ask], remove=True)
        finally:
            server.kill()
    client.containers.run("small", ["perl", "-e", SERVE], detach=True, ports={"80/tcp": 8080})
    published = ASK.format("127.0.0.1", 8080)  # rootlesskit listens before perl does
    assert until(lambda: there.host.run("bash", "-c", published, check=False) == "answered\n", 60)
    there.run("engine.stop")
    assert there.footprint() == before
    code, _, complaint = there.invoke("engine.status")
    assert code == 1
    assert "does not run" in complaint
    there.run("engine.start")
    client = there.engine().client
    assert len(client.containers.list(all=True)) == 1  # its data was kept


def test_without_a_tunnel_there_is_no_network_and_a_warning(there: UsersHost) -> None:
    close_tunnel(there)
    before = there.footprint()
    out, said = there.run("smoke")
    assert "containers of this engine reach nothing outside it" in said
    assert "chmod 0666 /dev/net/tun" in said
    assert out.startswith("nested: passed on unix:///")
    assert there.footprint() == before


def test_without_cgroups_limits_are_passed_over_and_top_works(there: UsersHost, base: Built) -> None:
    """As in a container of `dind` there: the engine's own entrypoint is that of such a container."""
    close_tunnel(there)
    there.run("engine.start")
    client = there.engine().client
    client.images.load(small_image(base, "small"))
    container = client.containers.run("small", ["sleep", "1000"], detach=True, mem_limit="64m", pids_limit=50)
    assert container.exec_run(["echo", "inside"]) == (0, b"inside\n")
    assert [row[-1] for row in container.top()["Processes"]] == ["sleep 1000"]
    container.remove(force=True)
    assert (
        "owns no cgroup: nested containers have no limits" in (there.state / "engine/engine.log").read_text()
    )


@contextmanager
def set_aside(there: UsersHost) -> Iterator[None]:
    """Have no built images in the state folder during the block."""
    aside = there.user.home / "aside"
    aside.mkdir()
    names = [name for name in BUILT if (there.state / name).exists()]
    for name in names:
        (there.state / name).rename(aside / name)
    try:
        yield
    finally:
        for name in names:
            (aside / name).rename(there.state / name)
        aside.rmdir()


def test_what_a_killed_run_has_left_is_cleared_up(there: UsersHost) -> None:
    close_tunnel(there)
    before = there.footprint()
    running = there.popen("smoke")
    deadline = time.monotonic() + 300
    while not (there.state / "engine/run/docker.sock").exists():
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    assert there.user.processes()
    with set_aside(there):  # else it deletes the images, too
        there.run("clean")
    assert there.footprint() == before
    assert there.kept() == {"data", "engine.log", "trees"}


def test_an_engine_that_was_killed_starts_again(there: UsersHost) -> None:
    close_tunnel(there)
    before = there.footprint()
    there.run("engine.start")
    identity = there.engine().client.info()["ID"]
    for pid in subprocess.run(
        ["pgrep", "-u", there.user.name, "unshare"], capture_output=True, text=True, check=True
    ).stdout.split():
        os.kill(int(pid), signal.SIGKILL)
    while there.user.processes():
        time.sleep(0.05)
    code, _, complaint = there.invoke("engine.status")
    assert code == 1
    assert "engine.stop" in complaint
    there.run("engine.start")
    assert there.engine().client.info()["ID"] == identity
    there.run("engine.stop")
    assert there.footprint() == before


def test_purge_deletes_what_belongs_to_subordinate_ids(there: UsersHost) -> None:
    close_tunnel(there)
    before = there.footprint()
    there.run("engine.start")
    there.run("engine.stop", "--purge")
    assert there.footprint() == before
    assert not (there.state / "engine").exists()


def refused(there: UsersHost, before: str = "") -> str:
    """Return the error of an engine.start that has left nothing."""
    footprint = there.footprint()
    code, out, said = there.invoke("engine.start", before=before)
    assert (code, out) == (1, "")
    assert there.footprint() == footprint
    (error,) = (line for line in said.splitlines() if line.startswith("error:"))
    return error


def test_a_user_without_subordinate_ids(there: UsersHost) -> None:
    there.user.take_subordinate_ids()
    try:
        error = refused(there)
    finally:
        there.user.give_subordinate_ids()
    assert (
        "there is no root here, and this user has no subordinate ids. Run as root, or: usermod --add-"
        in error
    )


def test_a_kernel_that_lets_users_make_no_namespaces(there: UsersHost) -> None:
    """The setting is that of a user namespace around it, in which it is lowered: the machine's stays."""
    words = f'"{there.user.python}" -I -B -c \'{RUN_IN_USER_NAMESPACE}\' "{there.user.place}/checkout"'
    switch = 'echo 0 >/proc/sys/user/max_user_namespaces; exec "$@"'
    command = 'chroot / setpriv --reuid "$user" --regid "$user" --init-groups "$@"'
    error = refused(there, f"exec {words} /bin/sh -euc '{switch}' sh /usr/sbin/{command}")
    assert "the kernel lets users make no user namespace (user.max_user_namespaces is 0)." in error
    assert error.endswith("As root, run: sysctl -w user.max_user_namespaces=15000")
