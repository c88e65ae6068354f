"""QEMU: which program emulates which machine, with which accelerator, and its command line."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from dindkit import process
from dindkit.errors import DindkitError
from dindkit.sandbox.emulation import BY_MACHINE

KVM, CPUINFO = Path("/dev/kvm"), Path("/proc/cpuinfo")
#: ioctl of KVM that makes a virtual machine: <linux/kvm.h>, KVM_CREATE_VM.
KVM_CREATE_VM = 0xAE01
#: What QEMU itself may never do, whatever a guest makes of it: seccomp(2).
SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
#: Parameters of the kernel: https://docs.kernel.org/admin-guide/kernel-parameters.html
PARAMETERS = "panic=-1 quiet loglevel=4"
#: More for a processor that is emulated: it speculates nothing, and without page tables of the kernel's
#: own, which KASLR makes arm64 have, QEMU keeps what it knows of addresses over a system call.
EMULATED = " mitigations=off nokaslr"
#: The port of the daemon's listener for clients with certificates, in the machine.
DOCKER_PORT = 2376


@dataclass(frozen=True)
class Model:
    """How QEMU plays a machine of one architecture."""

    program: str
    machine: str
    #: The processor that is emulated; with KVM it is this machine's own.
    cpu: str
    console: str
    #: Parameters of the kernel where the processor is emulated, beside EMULATED.
    emulated: str = ""


MODELS = {
    # Where QEMU waits for its own turn, the kernel takes the timer for broken, and panics.
    "amd64": Model("qemu-system-x86_64", "q35", "qemu64", "ttyS0", " no_timer_check"),
    # Not `max`, whose pointer authentication costs much time; atomic instructions, unlike cortex-a72.
    "arm64": Model("qemu-system-aarch64", "virt", "neoverse-n1", "ttyAMA0"),
}


@dataclass(frozen=True)
class Disk:
    """A file that the machine sees as a disk with the serial number `name`."""

    name: str
    file: Path
    read_only: bool = False


@dataclass(frozen=True)
class Hardware:
    """What a machine is made of. `memory` is in MiB; `port` on loopback leads to the machine's daemon."""

    architecture: str
    kernel: Path
    initramfs: Path
    disks: tuple[Disk, ...]
    memory: int
    cpus: int
    port: int
    #: What the machine prints.
    console: Path
    #: Of two named pipes: `line`.in and `line`.out, by which the machine and we talk.
    line: Path


def model(architecture: str) -> Model:
    """Return the model for `architecture`. Raises DindkitError where there is none."""
    try:
        return MODELS[architecture]
    except KeyError:
        raise DindkitError(
            f"No virtual machine is known here for {architecture}.", f"There are: {', '.join(MODELS)}."
        ) from None


def has_kvm(architecture: str) -> bool:
    """Tell whether this user can have KVM, for a machine of `architecture`.

    KVM without the processor's own virtualization starts only kernels that were made for it, which Debian's
    are not (PVM: https://lwn.net/Articles/963718/).
    """
    if BY_MACHINE.get(platform.machine()) != architecture or not _virtualizes(architecture):
        return False
    import fcntl  # not there on every host whose verbs import this

    try:
        kvm = os.open(KVM, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.close(fcntl.ioctl(kvm, KVM_CREATE_VM, 0))
    except OSError:
        return False
    finally:
        os.close(kvm)
    return True


def _virtualizes(architecture: str) -> bool:
    """Tell whether an amd64 processor has VT-x or AMD-V; of others nothing is known here."""
    if architecture != "amd64":
        return True
    try:
        lines = CPUINFO.read_text().splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.startswith("flags")), "")
    return not {"vmx", "svm"}.isdisjoint(flags.split())


def command(hardware: Hardware, *, kvm: bool) -> list[str]:
    """Return the command line that runs the machine. Raises ToolMissingError where QEMU is not installed."""
    found = model(hardware.architecture)
    words = [process.require(found.program), "-nodefaults", "-no-user-config", "-display", "none"]
    words += ["-sandbox", SANDBOX]
    words += ["-machine", f"{found.machine},accel={'kvm' if kvm else 'tcg'}"]
    words += ["-cpu", "host" if kvm else found.cpu, "-smp", str(hardware.cpus), "-m", str(hardware.memory)]
    words += ["-kernel", str(hardware.kernel), "-initrd", str(hardware.initramfs)]
    # A panic ends the machine: -no-reboot turns the reboot that it asks for into an end.
    more = "" if kvm else EMULATED + found.emulated
    words += ["-append", f"console={found.console} {PARAMETERS}{more}", "-no-reboot"]
    for disk in hardware.disks:
        mode = ",readonly=on" if disk.read_only else ",discard=unmap,cache=writeback"
        words += ["-drive", f"if=none,id={disk.name},format=raw,file={_escaped(disk.file)}{mode}"]
        words += ["-device", f"virtio-blk-pci,drive={disk.name},serial={disk.name}"]
    forward = f"hostfwd=tcp:127.0.0.1:{hardware.port}-:{DOCKER_PORT}"
    words += ["-netdev", f"user,id=net,ipv6=off,{forward}"]
    words += ["-device", "virtio-net-pci,netdev=net,romfile="]
    # Without it, programs that ask for random numbers wait for half a minute.
    words += ["-object", "rng-random,id=random,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=random"]
    words += ["-chardev", f"file,id=console,path={_escaped(hardware.console)},append=on"]
    words += ["-serial", "chardev:console"]
    words += ["-chardev", f"pipe,id=line,path={_escaped(hardware.line)}", "-device", "virtio-serial-pci"]
    return [*words, "-device", "virtserialport,chardev=line,name=dindkit"]


def _escaped(path: Path) -> str:
    """Return `path` as a value of QEMU's options, where a comma is written twice."""
    return str(path).replace(",", ",,")
