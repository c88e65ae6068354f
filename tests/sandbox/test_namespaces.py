"""The sandbox: what a script sees, what comes back, and that nothing is left behind however it ends."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from dindkit.formats.tree import Tree, read_tar
from dindkit.sandbox.interface import NoSandboxError, SandboxError, ScriptRun
from dindkit.sandbox.namespaces import Namespaces
from tests.support.killed_sandbox import kill_and_look
from tests.support.local_project import Run


def test_what_a_script_does_comes_back(run: Run) -> None:
    tree = run(
        "mkdir -m 1777 /new; echo hi >/new/file; chown 7:8 /new/file; chmod 4755 /new/file; "
        "ln /new/file /new/twin; ln -s /nowhere /new/link; rm /usr/bin/tail; umask"
    )
    file = tree.entries["new/file"]
    assert (file.mode, file.uid, file.gid) == (0o4755, 7, 8)
    assert tree.text("new/file") == "hi\n"
    assert (tree.entries["new/twin"].kind, tree.entries["new/twin"].link) == ("hardlink", "new/file")
    assert tree.entries["new/link"].link == "/nowhere"
    assert tree.entries["new"].mode == 0o1777
    assert "usr/bin/tail" not in tree.entries


def test_a_script_that_does_nothing_changes_nothing(run: Run, shell_tree: Tree) -> None:
    after = run("true")
    for path in ("dev", "proc"):
        assert not after.below(path)
        after.remove(path)
    before = {path: entry for path, entry in shell_tree.entries.items() if path}
    assert {path: entry for path, entry in after.entries.items() if path} == before


def test_capabilities_survive(shell_tree: Tree, sandbox: Namespaces) -> None:
    value = bytes.fromhex("0100000200200000000000000000000000000000")  # cap_net_raw=ep, <linux/capability.h>
    tree = Tree(shell_tree.contents, shell_tree.entries.values())
    tree.entries["usr/bin/cat"] = replace(tree.entries["usr/bin/cat"], capability=value)
    after = sandbox.run(
        ScriptRun(tree.write, "true", lambda stream: list(read_tar(stream, tree.contents)), {}, 500_000_000)
    )
    assert [entry.capability for entry in after if entry.path == "usr/bin/cat"] == [value]


def test_a_script_sees_one_fixed_world(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "of the host")
    old = os.umask(0o077)
    try:
        tree = run("{ env | sort; umask; uname -n; id -u; ls /; echo $$; } >/seen; cat /proc/net/dev >/net")
    finally:
        os.umask(old)
    seen = tree.text("seen").splitlines()
    assert "SECRET=of the host" not in seen
    assert {"LC_ALL=C", "TZ=UTC", "HOME=/root", "DEBIAN_FRONTEND=noninteractive"} <= set(seen)
    assert seen[-1] == "3"  # a PID namespace of its own: 1 is the worker, 2 has laid the tree out
    assert "0022" in seen
    assert "dindkit" in seen
    assert "0" in seen
    assert "home" not in seen  # nothing of the host's root
    traffic = [line.split()[1] for line in tree.text("net").splitlines()[2:]]
    assert set(traffic) == {"0"}  # a network namespace of its own, in which nothing is up


def test_a_script_does_not_change_the_hosts_kernel(run: Run) -> None:
    setting = Path("/proc/sys/kernel/printk_ratelimit_burst")  # harmless, and one for all namespaces
    before = setting.read_text()
    try:
        tree = run(
            f"cat {setting} >/read; echo {int(before) + 1} 2>/said >{setting} || echo refused >/result; "
            "for one in bus fs irq irq/default_smp_affinity sys sysrq-trigger; do "
            'if [ -w "/proc/$one" ]; then echo "$one" >>/writable; fi; done'
        )
        after = setting.read_text()
    finally:
        if os.access(setting, os.W_OK):
            setting.write_text(before)
    assert tree.text("read") == before == after
    assert tree.text("result") == "refused\n"
    assert "writable" not in tree.entries


def test_a_process_left_running_does_not_outlive_the_script(run: Run) -> None:
    started = time.monotonic()
    run("sleep 1000 & echo started")
    assert time.monotonic() - started < 100


def test_a_failing_script_is_quoted(run: Run) -> None:
    with pytest.raises(SandboxError, match="cannot go on"):
        run("echo 'cannot go on' >&2; exit 3")


def test_no_space_is_a_sentence(run: Run) -> None:
    with pytest.raises(SandboxError, match="ran out of space"):
        run("true", size=20_000_000)
    with pytest.raises(SandboxError, match="No space left"):
        run("head -c 900M /dev/zero >/big", size=500_000_000)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("moment", ["feeding", "running", "taking"])
def test_killed_at_any_moment_it_leaves_nothing(
    tmp_path: Path, shell_tree: Tree, number: signal.Signals, moment: str
) -> None:
    kill_and_look(Namespaces, tmp_path, shell_tree, number, moment)


def test_a_script_that_says_more_than_is_kept(run: Run) -> None:
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from now on, proc_pid_clear_refs(5)
    before = kibibytes("VmRSS")
    with pytest.raises(SandboxError, match="the end"):
        run("head -c 300M /dev/zero >&2; echo; echo 'the end' >&2; exit 3")
    assert kibibytes("VmHWM") - before < 150_000


def kibibytes(name: str) -> int:
    """Return a size of this process's memory by its name in /proc/self/status."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(f"{name}:"))


def kill_first_process(folder: Path) -> None:
    """Kill the first process of the sandbox in `folder`, as soon as there is one."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                ids = re.search(r"^NSpid:.*\t1$", (entry / "status").read_text(), re.MULTILINE)
                if ids and str(folder) in (entry / "cmdline").read_text():
                    os.kill(int(entry.name), signal.SIGKILL)
                    return
        time.sleep(0.01)


def test_a_sandbox_that_is_killed_is_not_one_that_cannot_be_made(shell_tree: Tree, tmp_path: Path) -> None:
    """As the kernel does where memory is short: a sandbox of another kind would have no more of it."""
    folder = tmp_path / "sandbox"
    killer = threading.Thread(target=kill_first_process, args=[folder])
    killer.start()
    run = ScriptRun(shell_tree.write, "sleep 60", lambda stream: stream.read(), {}, 500_000_000)
    with pytest.raises(SandboxError, match=r"^The sandbox was killed\. Was memory short") as caught:
        Namespaces(folder).run(run)
    killer.join()
    assert not isinstance(caught.value, NoSandboxError)
