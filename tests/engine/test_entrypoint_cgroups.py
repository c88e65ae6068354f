"""cgroups: version 1, version 2, and version 2 in the host's namespace."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from dindkit.engine.discover import Engine
from dindkit.image.build import Built
from tests.engine.dind import ALL_BUT_CGROUP, UNCONFINED, Containers, Dind, temporary_containers

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def keep2(engine2: Engine, dind: Built, base: Built) -> Iterator[Containers]:
    with temporary_containers(engine2, dind.reference, base) as made:
        yield made


def version(dind: Dind) -> int:
    return int(dind("docker info -f '{{.CgroupVersion}}'"))


class TestOfThisEngine:
    """Version 1 or 2, as the host has it."""

    def test_limits_of_nested_containers_hold(self, daemon: Dind) -> None:
        files = {
            1: ("memory/memory.limit_in_bytes", "pids/pids.max", "cpu/cpu.cfs_quota_us"),
            2: ("memory.max", "pids.max", "cpu.max"),
        }[version(daemon)]
        script = " ".join(f"/sys/fs/cgroup/{file}" for file in files)
        limits = daemon.nested(f"cat {script}", "--memory=64m", "--pids-limit=50", "--cpus=0.5").split()
        assert limits[:2] == [str(64 << 20), "50"]
        assert limits[2] == "50000"

    def test_the_limit_of_processes_is_felt(self, daemon: Dind) -> None:
        script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 1 & done; wait"
        _, output = daemon.run("docker", "run", "--rm", "--pids-limit=5", "base", "bash", "-c", script)
        assert "Resource temporarily unavailable" in output

    def test_they_are_inside_the_first_container(self, shared_containers: Containers, daemon: Dind) -> None:
        """Seen from the engine's host: the nested container's cgroup is below the first container's."""
        nested = daemon("docker run --detach base sleep 60")
        try:
            host = shared_containers.start("sleep", "600", pid_mode="host", cgroupns="host")
            look = f"cat /proc/[0-9]*/cgroup 2>/dev/null | grep {nested} | sort -u"
            paths = [line.split(":", 2)[2] for line in host(look).splitlines()]
            assert paths
            assert all(str(daemon.container.id) in path.partition(nested)[0] for path in paths)
        finally:
            daemon(f"docker rm -f {nested}")

    def test_they_stay_inside_where_the_hosts_tree_is_in_view(
        self, shared_containers: Containers, daemon: Dind
    ) -> None:
        """Version 1 with the host's /sys/fs/cgroup mounted into the container, as some pods have it."""
        if version(daemon) == 2:
            pytest.skip("this host's programs use cgroup v2, where TestVersion2 covers it")
        dind = shared_containers.daemon(volumes={"/sys/fs/cgroup": {"bind": "/sys/fs/cgroup"}}).load(
            shared_containers.base
        )
        nested = dind("docker run --detach base sleep 60")
        path = dind(
            f"sed -n 's/.*:memory://p' /proc/$(docker inspect -f '{{{{.State.Pid}}}}' {nested})/cgroup"
        )
        assert path == f"/docker/{dind.container.id}/{nested}"


class TestVersion2:
    @pytest.fixture(scope="class", params=["private", "host"])
    @classmethod
    def nest(cls, request: pytest.FixtureRequest, keep2: Containers) -> Dind:
        """Start a daemon in each of the two cgroup namespaces that `docker run --cgroupns` offers."""
        dind = keep2.daemon(cgroupns=request.param, name=f"dind-{request.param}").load(keep2.base)
        dind.nested("true")
        return dind

    def own(self, nest: Dind) -> str:
        """Return the folder of the first container's own cgroup, as it sees it."""
        if nest.name == "dind-private":
            return "/sys/fs/cgroup"
        return str(nest("sed -n 's|^0::\\(.*\\)/init$|/sys/fs/cgroup\\1|p' /proc/1/cgroup"))

    def test_dockerd_runs_on_version_2(self, nest: Dind) -> None:
        assert version(nest) == 2

    def test_own_processes_moved_down(self, nest: Dind) -> None:
        own = self.own(nest)
        assert own != ""
        daemons = set(nest("pidof dockerd containerd").split()) | {"1"}
        assert len(daemons) == 3
        assert daemons <= set(nest(f"cat {own}/init/cgroup.procs").split())
        assert daemons.isdisjoint(nest(f"cat {own}/cgroup.procs").split())

    def test_every_controller_that_is_there_reaches_nested_containers(self, nest: Dind) -> None:
        own = self.own(nest)
        there = set(nest(f"cat {own}/cgroup.controllers").split())
        assert set(nest(f"cat {own}/cgroup.subtree_control").split()) == there
        assert set(nest.nested("cat /sys/fs/cgroup/cgroup.controllers").split()) >= there - {"cpuset"}

    def test_nested_containers_stay_below(self, nest: Dind) -> None:
        own = self.own(nest)
        nested = nest("docker run --detach base sleep 60")
        below = nest(f"find {own} -type d -name '*{nested}*'")
        everywhere = nest(f"find /sys/fs/cgroup -type d -name '*{nested}*'")
        nest(f"docker rm -f {nested}")
        assert below == everywhere != ""

    def test_nothing_outside_was_changed(self, keep2: Containers) -> None:
        """In the host's namespace all of the host's tree could be written to."""
        look = "cd /sys/fs/cgroup && cat {.,docker}/cgroup.subtree_control && find . -maxdepth 2 -type d"
        look = f"bash -c '{look}'"
        observer = keep2.start("sleep", "600", cgroupns="host")
        before = observer(look)
        dind = keep2.daemon(cgroupns="host").load(keep2.base)
        dind.nested("true")
        after = observer(look).replace(f"./docker/{dind.container.id}\n", "")
        assert sorted(after.split("\n")) == sorted(before.split("\n"))

    def test_a_second_daemon_in_the_same_container_is_no_deeper(self, keep2: Containers) -> None:
        look = "docker info -f {{.CgroupVersion}}; sed -n s/^0:://p /proc/self/cgroup"
        script = f"with-dockerd true; with-dockerd sh -c '{look}'"
        code, output, _ = keep2.answer("sh", "-c", script)
        assert (code, output.split()) == (0, ["2", "/init"])

    def test_exec_still_works(self, nest: Dind) -> None:
        assert nest("echo in") == "in"

    def test_a_start_anew(self, nest: Dind) -> None:
        nest.container.restart()
        nest.ready()
        assert nest.nested("echo in") == "in"
        assert not [line for line in nest.said() if "warning" in line]


@pytest.mark.parametrize("namespace", ["private", "host"])
class TestWhatVersion2Refuses:
    """The same messages as with version 1, by other files."""

    def test_a_cgroup_that_is_read_only(self, keep2: Containers, namespace: str) -> None:
        message = keep2.refused(*UNCONFINED, **ALL_BUT_CGROUP, cgroupns=namespace)
        assert "a writable /sys/fs/cgroup" in message
        assert "--privileged" in message

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"mem_limit": "64m"}, "64 MB of memory, and a daemon with one small container needs 96"),
            ({"pids_limit": 15}, "have 15 processes, and a daemon with one small container needs 64"),
        ],
        ids=["memory", "pids"],
    )
    def test_too_little_to_live_on(
        self, keep2: Containers, namespace: str, options: dict[str, Any], says: str
    ) -> None:
        controller = "memory" if "mem_limit" in options else "pids"
        there = keep2.start("sleep", "60", cgroupns="host", privileged=False)
        if controller not in there("cat /sys/fs/cgroup/cgroup.controllers").split():
            pytest.skip(
                f"this host has {controller} in cgroup v1; test_limits_by_files_of_version_2 stands in"
            )
        assert says in keep2.refused(**options, cgroupns=namespace)

    def test_enough_is_not_refused(self, keep2: Containers, namespace: str) -> None:
        """Nor once more, when processes have been moved down."""
        limits: dict[str, Any] = {"mem_limit": "200m", "memswap_limit": "200m", "pids_limit": 200}
        dind = keep2.daemon(**limits, cgroupns=namespace)
        assert dind("docker info -f ok") == "ok"
        dind.container.restart()
        assert dind.ready()("docker info -f ok") == "ok"


#: Gives a shell with mounts of its own the files of a cgroup of version 2, and asks for a daemon's least.
LIMITS = """
    umount -R /sys/fs/cgroup
    mount -t tmpfs tmpfs /sys/fs/cgroup
    mkdir -p /sys/fs/cgroup$3
    [ -z "$1" ] || echo "$1" >/sys/fs/cgroup$3/memory.max
    [ -z "$2" ] || echo "$2" >/sys/fs/cgroup$3/pids.max
    echo "0::$4" >/run/cgroup
    mount --bind /run/cgroup /proc/$$/cgroup
    . /usr/local/lib/dind/log.sh
    . /usr/local/lib/dind/privileges.sh
    require_limits
"""


@pytest.fixture(scope="module")
def idle(shared_containers: Containers) -> Dind:
    """Start a container without a daemon."""
    return shared_containers.start("sleep", "3600")


@pytest.mark.parametrize(
    ("folder", "path"),
    [("", "/"), ("", "/init"), ("/docker/a", "/docker/a"), ("/docker/a", "/docker/a/init")],
    ids=["own", "own-init", "host", "host-init"],
)
@pytest.mark.parametrize(
    ("memory", "processes", "says"),
    [
        ("67108864", "max", "may use 64 MB of memory"),
        ("max", "15", "may have 15 processes"),
        ("100663296", "64", None),
        ("max", "max", None),
        ("", "", None),
    ],
)
def test_limits_by_files_of_version_2(
    idle: Dind, folder: str, path: str, memory: str, processes: str, says: str | None
) -> None:
    shell = ("unshare", "--mount", "sh", "-ec", LIMITS, "sh")
    code, output = idle.run(*shell, memory, processes, folder, path)
    if says is None:
        assert (code, output) == (0, "")
    else:
        assert code == 1
        assert output.startswith("dind: error: ")
        assert says in output


def test_a_controller_that_is_refused_costs_that_one_alone(keep2: Containers) -> None:
    """`domain threaded` cgroups and realtime processes make kernels refuse controllers."""
    script = """
        . /usr/local/lib/dind/log.sh
        . /usr/local/lib/dind/cgroups.sh
        mkdir -p /tmp/cgroup && cd /tmp/cgroup
        echo 'one two' >cgroup.controllers
        mkdir cgroup.subtree_control && enable_controllers /tmp/cgroup 2>&1
        echo still here
    """
    code, output, _ = keep2.answer("bash", "-c", script, privileged=False)
    assert "no nested limits for: one two" in output
    assert "still here" in output
    assert code == 0
