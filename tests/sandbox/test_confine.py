"""A maintainer script that attacks: what it asks of the kernel is refused, and what dpkg needs is not."""

from __future__ import annotations

import errno
import os
import platform
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from dindkit.formats.tree import Tree, read_tar
from dindkit.sandbox import confine
from dindkit.sandbox.interface import ScriptRun
from dindkit.sandbox.namespaces import Namespaces
from tests.support.local_project import Run

#: Makes each call by its number with harmless arguments, and says which error it gives. A shell's script
#: cannot, hence C; and static, because the tree has no libraries but its own.
PROGRAM = r"""
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/syscall.h>
#include <unistd.h>
static void said(const char *what, long result) {
    printf("%s %s\n", what, result >= 0 ? "done" : strerrorname_np(errno));
}
int main(int count, char **words) {
    for (int at = 1; at + 1 < count; at += 2) {
        errno = 0;
        said(words[at], syscall(atol(words[at + 1]), -1, 0, 0, 0, 0, 0));
    }
    said("mount proc", syscall(SYS_mount, "proc", "/mnt", "proc", 0, 0));
    said("remount", syscall(SYS_mount, "none", "/proc/sys", 0, 32 | 4096, 0));
    said("umount", syscall(SYS_umount2, "/proc/sys", 2));
    said("unshare user", unshare(CLONE_NEWUSER));
    said("unshare mount", unshare(CLONE_NEWNS));
    said("unshare files", unshare(CLONE_FILES));
    said("clone user", syscall(SYS_clone, CLONE_NEWUSER | 17, 0, 0, 0, 0));
    said("mknod disk", mknod("/disk", S_IFBLK | 0600, makedev(8, 0)));
    said("mknod memory", mknod("/memory", S_IFCHR | 0600, makedev(1, 1)));
    said("ptrace 1", syscall(SYS_ptrace, 16, 1, 0, 0));
    said("open 1's memory", open("/proc/1/mem", O_RDWR));
    said("open 1's root", open("/proc/1/root/etc/passwd", O_RDONLY));
    said("open 1's output", open("/proc/1/fd/1", O_WRONLY));
    said("open 1's namespace", open("/proc/1/ns/mnt", O_RDONLY));
    said("open the terminal", open("/dev/tty", O_RDWR));
    said("write a setting", open("/proc/sys/kernel/core_pattern", O_WRONLY));
    said("write sysrq", open("/proc/sysrq-trigger", O_WRONLY));
    said("read the log", open("/proc/kmsg", O_RDONLY | O_NONBLOCK));
    said("no new privileges", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) - 1);
    char *const nothing[] = {0};
    (void)nothing;
    return 0;
}
"""


@pytest.fixture(scope="module")
def attacker(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    if shutil.which("gcc") is None:
        pytest.skip("the attacker is a C program, and there is no compiler here")
    folder = tmp_path_factory.mktemp("attacker")
    (folder / "a.c").write_text(PROGRAM)
    words = ["gcc", "-D_GNU_SOURCE", "-static", "-o", str(folder / "a"), str(folder / "a.c")]
    subprocess.run(words, check=True)
    return (folder / "a").read_bytes()


def attempts(sandbox: Namespaces, shell_tree: Tree, attacker: bytes, script: str) -> dict[str, str]:
    """Run the attacker; return what became of each attempt."""
    tree = Tree(shell_tree.contents, shell_tree.entries.values())
    tree.put("attacker", attacker, 0o755)
    after = sandbox.run(
        ScriptRun(
            tree.write,
            script,
            lambda stream: Tree(tree.contents, read_tar(stream, tree.contents)),
            {},
            500_000_000,
        )
    )
    return dict(line.rsplit(" ", 1) for line in after.text("said").splitlines())


def numbers() -> str:
    column = list(confine.MACHINES).index(platform.machine())
    found = {name: both[column] for name, both in confine.REFUSED.items() if both[column] >= 0}
    return " ".join(f"{name} {number}" for name, number in found.items())


@pytest.mark.skipif(platform.machine() not in confine.MACHINES, reason="no filter is known for this machine")
def test_a_hostile_script_is_refused(sandbox: Namespaces, shell_tree: Tree, attacker: bytes) -> None:
    said = attempts(sandbox, shell_tree, attacker, f"/attacker {numbers()} clone3 435 >/said")
    assert said.pop("clone3") == "ENOSYS"
    assert said.pop("unshare files") == "done"
    assert said.pop("no new privileges") == "done"
    assert said.pop("open the terminal") == "ENXIO"
    assert said.pop("write a setting") == "EROFS"
    assert said.pop("write sysrq") == ("EROFS" if Path("/proc/sysrq-trigger").exists() else "ENOENT")
    for name in ("open 1's memory", "open 1's root", "open 1's output", "open 1's namespace"):
        assert said.pop(name) == "EACCES", name
    assert set(said.values()) == {"EPERM"}, said
    assert len(said) >= 55


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only this machine has a second and a third ABI")
def test_calls_by_the_numbers_of_another_abi(sandbox: Namespaces, shell_tree: Tree, attacker: bytes) -> None:
    said = attempts(sandbox, shell_tree, attacker, f"/attacker getpid {0x40000000 + 39} >/said")
    assert said["getpid"] == "EPERM"


def test_what_a_script_keeps(run: Run) -> None:
    tree = run(
        "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status >/status; echo x >/file; "
        "chown 7:8 /file; chmod 6755 /file; ln /file /twin; mkfifo /pipe; "
        "for one in kcore keys timer_list; do head -c1 /proc/$one || true; done >/seen 2>/dev/null; "
        "for one in proc/acpi proc/scsi sys; do ls -A /$one || true; done >>/seen 2>/dev/null"
    )
    lines = dict(line.split(":\t") for line in tree.text("status").splitlines())
    kept = f"{sum(1 << number for number in confine.KEPT.values()):016x}"
    assert {lines[name] for name in ("CapPrm", "CapEff", "CapBnd")} == {kept}
    assert (lines["CapAmb"], lines["NoNewPrivs"]) == ("0" * 16, "1")
    if platform.machine() in confine.MACHINES:
        assert lines["Seccomp"] == "2"
    assert (tree.entries["file"].mode, tree.entries["file"].uid) == (0o6755, 7)
    assert tree.entries["pipe"].kind == "fifo"
    assert tree.text("seen") == ""  # and /sys is an empty folder


def decide(machine: str, number: int, first: int = 0, second: int = 0, audit: int | None = None) -> int:
    """Run a filter over one call, as the kernel would; return its verdict."""
    steps = list(struct.iter_unpack("=HBBI", confine.program(machine)))
    audit = confine.MACHINES[machine]["audit"] if audit is None else audit
    data = {confine.NUMBER: number, confine.ARCHITECTURE: audit, confine.FIRST: first, confine.SECOND: second}
    at = value = 0
    while True:
        code, yes, no, operand = steps[at]
        at += 1
        if code == confine.LOAD:
            value = data[operand]
        elif code == confine.RETURN:
            return int(operand)
        else:
            tests = {
                confine.JUMP_EQUAL: value == operand,
                confine.JUMP_GREATER_EQUAL: value >= operand,
                confine.JUMP_ANY_BIT: value & operand != 0,
            }
            at += yes if tests[code] else no


REFUSED = confine.REFUSE | errno.EPERM


@pytest.mark.parametrize("machine", sorted(confine.MACHINES))
def test_the_filter_of_each_machine(machine: str) -> None:
    """The one of the machine that runs this is tried on the kernel above; the other's can be read as well."""
    known, column = confine.MACHINES[machine], list(confine.MACHINES).index(machine)
    refused = {both[column] for both in confine.REFUSED.values()} - {-1}
    for number in range(500):
        wanted = REFUSED if number in refused else confine.ALLOW
        wanted = confine.REFUSE | errno.ENOSYS if number == known["clone3"] else wanted
        assert decide(machine, number) == wanted, number
        assert decide(machine, number, audit=0x40000003) == REFUSED  # i386's numbers mean other calls
    for call in ("clone", "unshare"):
        for flag in (0x80, 1 << 17, *(1 << bit for bit in range(25, 31))):
            assert decide(machine, known[call], first=flag | 17) == REFUSED
        assert decide(machine, known[call], first=0x003D0F00) == confine.ALLOW  # what pthread_create asks for
    assert (
        decide(machine, known["ioctl"], second=0x5412)
        == decide(machine, known["ioctl"], second=0x541C)
        == REFUSED
    )
    assert decide(machine, known["ioctl"], second=0x5413) == confine.ALLOW


@pytest.mark.skipif(
    not Path("/usr/include/asm-generic/unistd.h").exists(), reason="Linux' headers are not here"
)
def test_the_numbers_are_the_kernels(tmp_path: Path) -> None:
    """aarch64 has the generic table: <asm-generic/unistd.h>."""
    names = [*confine.REFUSED, "clone", "clone3", "unshare", "ioctl"]
    text = "#include <asm-generic/unistd.h>\n" + "".join(f"{name} __NR_{name}\n" for name in names)
    words = ["gcc", "-E", "-P", "-D__BITS_PER_LONG=64", "-D__ARCH_WANT_SYS_CLONE3", "-"]
    done = subprocess.run(words, input=text, capture_output=True, text=True, check=True)
    found = dict(line.split(" ") for line in done.stdout.splitlines() if line.count(" ") == 1)
    ours = {name: str(both[1]) for name, both in confine.REFUSED.items() if both[1] >= 0}
    ours |= {name: str(confine.MACHINES["aarch64"][name]) for name in ("clone", "clone3", "unshare", "ioctl")}
    assert {name: found[name] for name in ours} == ours


def test_a_machine_without_a_filter() -> None:
    assert confine.program("riscv64") == b""
    assert os.uname().machine in confine.MACHINES or confine.program(os.uname().machine) == b""
