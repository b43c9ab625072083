# SPDX-License-Identifier: MIT
"""The guests and machines that test_machines.py runs.

Each guest gets a quarter of the memory that it believes in, and cleans all of it, where its kernel
can: by memtest=1, or init_on_free=1, which both write zeros to all that is free at boot.
"""

import dataclasses

import lib

OVMF = "/usr/share/OVMF"
AAVMF = "/usr/share/AAVMF"

# By architecture: QEMU's program, Debian's package of it, its machine, console, scrub.
ARCHITECTURES = {
    "x86_64": ("qemu-system-x86_64", "qemu-system-x86", "ttyS0", "memtest=1"),
    "i386": ("qemu-system-i386", "qemu-system-x86", "ttyS0", "memtest=1"),
    "aarch64": ("qemu-system-aarch64", "qemu-system-arm", "ttyAMA0", "init_on_free=1"),
    "riscv64": ("qemu-system-riscv64", "qemu-system-misc", "ttyS0", "init_on_free=1"),
    "ppc64le": ("qemu-system-ppc64", "qemu-system-ppc", "hvc0", "init_on_free=1"),
    "s390x": ("qemu-system-s390x", "qemu-system-misc", "ttysclp0", "init_on_free=1"),
}
# Those that KVM runs; the suite with KVM is for x86.
WITH_KVM = ("x86_64", "i386")


@dataclasses.dataclass(frozen=True)
class Case:
    """One row. `words` come behind those that all have; `memory` is what -m says, if more than
    a size; `how` is the function of test_machines.py that runs it."""

    guest: str
    machine: str
    architecture: str = "x86_64"
    words: tuple = ()
    append: str = ""
    max: str = "1G"
    target: str = "256M"
    memory: str = ""
    how: str = "linux"
    needs: tuple = ()    # files
    default: bool = False  # in the suite, too

    def key(self, accel, qemu):
        return {"guest": self.guest, "machine": self.machine, "accelerator": accel, "qemu": qemu}


def nodes(count, mib):
    """A guest with NUMA: so many nodes, with a block of RAM each."""
    words = []
    for node in range(count):
        words += ["-object", f"memory-backend-ram,id=m{node},size={mib}M",
                  "-numa", f"node,nodeid={node},memdev=m{node}"]
    return tuple(words)


def firmware(code, variables):
    return ("-drive", f"if=pflash,format=raw,readonly=on,file={code}",
            "-drive", f"if=pflash,format=raw,file=@FOLDER@/{variables}")


UEFI = ("-machine", "q35", *firmware(f"{OVMF}/OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"))
UEFI_FILES = (f"{OVMF}/OVMF_CODE_4M.fd", f"{OVMF}/OVMF_VARS_4M.fd")
LINUX = "Linux, x86-64"
BALLOON = "ballast.scenario=balloon ballast.size=8"

CASES = (
    Case(LINUX, "pc", words=("-machine", "pc")),
    Case(LINUX, "pc, 32 vCPUs", words=("-machine", "pc", "-smp", "32")),
    Case(LINUX, "q35, 4 vCPUs", words=("-machine", "q35", "-smp", "4")),
    Case(LINUX, "q35, UEFI (OVMF)", words=UEFI, needs=UEFI_FILES),
    # Under TCG its clock needs what ACPI says it has not; and without ACPI it cannot power off.
    Case(LINUX, "microvm", words=("-machine", "microvm,acpi=off"), how="stays",
         append="ballast.scenario=hold"),
    Case(LINUX, "pc, 2 NUMA nodes, 4 vCPUs",
         words=("-machine", "pc", "-smp", "4", *nodes(2, 512))),
    Case(LINUX, "q35, 8 NUMA nodes of 126 MiB, 8 vCPUs", max="1008M", target="252M",
         words=("-machine", "q35", "-smp", "8", *nodes(8, 126))),
    Case(LINUX, "q35, a DIMM from the start", max="512M", target="192M",
         memory="512M,slots=2,maxmem=2G",
         words=("-machine", "q35", "-object", "memory-backend-ram,id=d,size=256M",
                "-device", "pc-dimm,memdev=d")),
    Case(LINUX, "q35, a DIMM plugged and unplugged", how="dimm", max="512M", target="192M",
         memory="512M,slots=2,maxmem=2G", append=f"{BALLOON} memhp_default_state=online_movable",
         words=("-machine", "q35"), default=True),
    Case("Linux, 32-bit x86 with PAE", "pc", "i386", ("-machine", "pc")),
    Case("Linux, aarch64", "virt", "aarch64", ("-machine", "virt", "-cpu", "cortex-a57")),
    Case("Linux, aarch64", "virt, UEFI (AAVMF)", "aarch64",
         ("-machine", "virt", "-cpu", "cortex-a57",
          *firmware(f"{AAVMF}/AAVMF_CODE.fd", "AAVMF_VARS.fd")),
         needs=(f"{AAVMF}/AAVMF_CODE.fd", f"{AAVMF}/AAVMF_VARS.fd")),
    Case("Linux, riscv64", "virt", "riscv64", ("-machine", "virt")),
    Case("Linux, ppc64le (64 KiB pages)", "pseries", "ppc64le", ("-machine", "pseries")),
    Case("Linux, ppc64le (64 KiB pages), balloon", "pseries", "ppc64le", ("-machine", "pseries"),
         append=BALLOON, how="covered"),
    Case("Linux, s390x (big endian)", "s390-ccw-virtio", "s390x",
         ("-machine", "s390-ccw-virtio")),
    Case("Linux, s390x (big endian), balloon", "s390-ccw-virtio", "s390x",
         ("-machine", "s390-ccw-virtio"), append=BALLOON, how="covered"),
    Case("Xen, which scrubs all its memory, with Linux as dom0", "q35, multiboot", how="xen",
         max="2G", target="512M", words=("-machine", "q35")),
    Case("GRUB, then Linux", "q35, UEFI (OVMF)", how="grub", words=UEFI, needs=UEFI_FILES),
    Case("iPXE, then Linux over TFTP", "pc", how="ipxe", words=("-machine", "pc")),
    Case("memtest86+", "pc", how="memtest", words=("-machine", "pc")),
)


def qemu_of(case):
    """Its program, or Skip."""
    program, package, _, _ = ARCHITECTURES[case.architecture]
    return program, package


def command_line(case, held=True):
    """The words that all have, without what is booted."""
    words = ["-accel", lib.ACCEL, "-m", case.memory or case.max, "-nodefaults", "-no-user-config",
             "-display", "none", "-serial", "file:@FOLDER@/serial", "-qmp",
             "unix:@FOLDER@/qmp,server=on,wait=off", "-no-reboot", *case.words]
    if lib.ACCEL == "kvm":
        words += ["-cpu", "host"]
    return [*words, "-S"] if held else words


def append_of(case):
    _, _, console, scrub = ARCHITECTURES[case.architecture]
    return f"console={console} panic=-1 {scrub} {case.append}".strip()


def pages(case):
    return lib.size_to_pages(case.target)
