#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Guests of many kinds on machines of many kinds (machines.py), each watched from outside from
before its first instruction to its end.

In the suite some of them; all of them with BALLAST_MACHINES=all, or those in whose name a word is:
BALLAST_MACHINES=s390x. BALLAST_SUPPORT_RECORD=docs/support.json keeps what came of it (results.py),
and scripts/support-table makes docs/support.md of that.
"""

import json
import os
import re
import shutil
import subprocess
import sys

import lib
import machines
import results

WANTED = os.environ.get("BALLAST_MACHINES", "")
LIMIT_S = 240


def kit(name):
    """The parts of a guest of another kind. Only a run of all fetches them."""
    words = [] if WANTED else ["--cached"]
    done = subprocess.run([lib.SOURCE / "scripts/foreign-kit", *words, name], text=True,
                          capture_output=True, check=False)
    if done.returncode != 0:
        raise lib.Skip(done.stderr.strip().split("\n")[-1].removeprefix("foreign-kit: "))
    return dict(line.split(" ", 1) for line in done.stdout.splitlines())


def parts_of(case):
    """Kernel and initramfs."""
    found = lib.guest_kit() if case.architecture == "x86_64" else kit(case.architecture)
    return found["kernel"], found["initramfs"]


def start(session, case, words):
    """Starts a case's guest, held; its firmware's variables are a copy of its own."""
    for path in case.needs:
        if not os.path.exists(path):
            raise lib.Skip(f"there is no {path}")
    program, package = machines.qemu_of(case)
    if not shutil.which(program):
        raise lib.Skip(f"there is no {program}: install {package}")
    if lib.ACCEL == "kvm" and case.architecture not in machines.WITH_KVM:
        raise lib.Skip(f"KVM here runs no {case.architecture}")
    copies = [path for path in case.needs if "_VARS" in path]
    folder = session.folder / f"{session.count + 1}"

    def prepare():
        for path in copies:
            shutil.copy(path, folder)
    return session.start_qemu([*machines.command_line(case), *words], case.target, qemu=program,
                              prepare=prepare)


def watch(session, case, guest, between=()):
    """Has it run, with an observer. Returns that and the monitor."""
    guest.wait_up()
    observer = lib.Observer(session, guest.name, between)
    lib.check(observer.first["sum_pages"] == machines.pages(case), f"before the first instruction: "
              f"{observer.first}")
    qmp = guest.qmp()
    lib.check(qmp.call("query-status")["status"] == "prelaunch", "the guest has run")
    qmp.call("cont")
    return observer, qmp


def see_report(report):
    print("  " + lib.describe_report(report))
    lib.check(report["good"] and report["samples"] > 0, f"the kernel's books say otherwise: "
              f"{json.dumps(report)}")


def to_the_end(session, case, guest):
    """The guest powers off by itself, and all that time the sum is the target."""
    observer, _ = watch(session, case, guest)
    status = guest.wait(LIMIT_S)
    see_report(observer.report())
    lib.check(status == 0 and "done" in guest.said(), f"the guest did not get through: "
              f"{guest.account()}")


def see_scrub(case, guest):
    if "memtest=1" in machines.append_of(case):
        lib.check("early_memtest: # of tests: 1" in guest.serial, "it did not scrub its memory")
    total = int(guest.fact("MemTotal").split()[0])
    lib.check(total * 1024 > machines.pages(case) * lib.PAGE * 1.5,
              f"it does not believe in more than it has: {total} kB")


def stays(session, case):
    """Linux boots and cleans all its memory."""
    kernel, initramfs = parts_of(case)
    guest = start(session, case, ["-kernel", kernel, "-initrd", initramfs, "-append",
                                  machines.append_of(case)])
    observer, _ = watch(session, case, guest)
    guest.wait_said("scenario hold", LIMIT_S)
    see_report(observer.stop())
    see_scrub(case, guest)
    return f"Linux {guest.fact('kernel')}"


def linux(session, case):
    """Linux boots, cleans all its memory, and powers off."""
    kernel, initramfs = parts_of(case)
    guest = start(session, case, ["-kernel", kernel, "-initrd", initramfs, "-append",
                                  machines.append_of(case)])
    to_the_end(session, case, guest)
    see_scrub(case, guest)
    return f"Linux {guest.fact('kernel')}"


def state_of(guest):
    """Its figures, while it lives."""
    state = guest.stat()
    lib.check(state is not None, f"it lives no more: {guest.account()}")
    return state


def up_and_covered(case, guest):
    lib.until(lambda: any(line.startswith("intact") for line in guest.said()) or
              not guest.alive(), LIMIT_S, "it should come up", 0.2)
    lib.until(lambda: state_of(guest)["covered"], LIMIT_S,
              "its balloon should give up what was not granted", 0.2)
    state = state_of(guest)
    lib.check(state["total_pages"] == state["target_pages"] == machines.pages(case), state)


def unharmed(guest):
    lib.check(not [line for line in guest.said() if line.startswith("DAMAGED")], guest.account())


def covered(session, case):
    """The balloon gives up what was not granted, and takes it back when it is."""
    kernel, initramfs = parts_of(case)
    guest = start(session, case, ["-kernel", kernel, "-initrd", initramfs, "-append",
                                  machines.append_of(case)])
    observer, _ = watch(session, case, guest)
    up_and_covered(case, guest)
    see_report(observer.stop())
    done = session.ballast("set", "--wait", guest.name, "384M")
    lib.check(done.returncode == 0, done.stderr)
    wanted = state_of(guest)["max_pages"] - lib.size_to_pages("384M")
    lib.until(lambda: state_of(guest)["out_pages"] <= wanted + 16, LIMIT_S,
              "its balloon should take back what was granted", 0.2)
    unharmed(guest)
    return f"Linux {guest.fact('kernel')}"


def plug_and_unplug(session, case, guest, qmp):
    """A DIMM comes, is used, and goes."""
    small = state_of(guest)["max_pages"]
    large = small + lib.size_to_pages("256M")
    qmp.call("object-add", **{"qom-type": "memory-backend-ram", "id": "d", "size": 256 << 20})
    state = state_of(guest)
    lib.check(state["max_pages"] == large and state["out_pages"] >= large - small, state)
    qmp.call("device_add", driver="pc-dimm", id="dimm", memdev="d")
    # When the guest uses it, the balloon takes as much.
    lib.until(lambda: state_of(guest)["out_pages"] >= large - machines.pages(case) - 4096 and
              state_of(guest)["covered"], LIMIT_S, "the balloon should take what a DIMM brought",
              0.2)
    # More than it could be without. And a guest that shall move out of a DIMM needs room.
    done = session.ballast("set", "--wait", guest.name, "640M")
    lib.check(done.returncode == 0, done.stderr)
    lib.until(lambda: qmp.call("query-balloon")["actual"] >= 639 << 20, LIMIT_S,
              "the balloon should follow", 0.2)
    qmp.call("device_del", id="dimm")
    lib.until(lambda: not qmp.call("query-memory-devices"), LIMIT_S,
              "the guest should let go of its DIMM", 0.2)
    qmp.call("object-del", id="d")
    lib.until(lambda: state_of(guest)["max_pages"] == small, LIMIT_S, "max should fall", 0.2)
    lib.until(lambda: state_of(guest)["total_pages"] == small, LIMIT_S, "target is at most max",
              0.2)
    done = session.ballast("set", "--wait", guest.name, case.target)
    lib.check(done.returncode == 0, done.stderr)
    up_and_covered(case, guest)


def dimm(session, case):
    """A DIMM comes and goes: max with it, and the target when it is more than max."""
    kernel, initramfs = parts_of(case)
    guest = start(session, case, ["-kernel", kernel, "-initrd", initramfs, "-append",
                                  machines.append_of(case)])
    observer, qmp = watch(session, case, guest, between=(case.target, "640M"))
    up_and_covered(case, guest)
    for _ in range(2 if WANTED else 1):
        plug_and_unplug(session, case, guest, qmp)
    unharmed(guest)
    # What the domain cannot serve is refused, and the guest runs on.
    qmp.call("object-add", **{"qom-type": "memory-backend-ram", "id": "s", "size": 64 << 20,
                              "share": True})
    try:
        qmp.call("device_add", driver="pc-dimm", id="shared", memdev="s")
        raise AssertionError("shared memory was added")
    except lib.Failed as failed:
        lib.check("share=on" in str(failed), failed)
    see_report(observer.stop())
    return f"Linux {guest.fact('kernel')}"


def xen(session, case):
    """Xen walks through all its memory, and starts Linux in what dom0 gets."""
    kernel, initramfs = parts_of(case)
    guest = start(session, case, [
        "-kernel", kit("xen")["kernel"], "-initrd",
        f"{kernel} console=hvc0 panic=-1,{initramfs}", "-append",
        "console=com1 com1=115200 dom0_mem=320M,max:320M bootscrub=1 loglvl=all"])
    try:
        to_the_end(session, case, guest)
    except lib.Failed:
        lib.check("Hardware Dom0 crashed" not in guest.serial, "the kernel of dom0 crashes" +
                  (", after Xen has scrubbed" if "Scrubbing Free RAM" in guest.serial else "") +
                  f": {guest.account()}")
        raise
    lib.check("Scrubbing Free RAM" in guest.serial, "Xen did not scrub its memory")
    return "Xen " + re.search(r"Xen version (\S+)", guest.serial).group(1)


def grub(session, case):
    """GRUB, started by UEFI from a disk, loads Linux."""
    kernel, initramfs = parts_of(case)
    disk = session.folder / "disk"
    for folder in ("EFI/BOOT", "EFI/debian"):
        (disk / folder).mkdir(parents=True)
    shutil.copy(kit("grub")["kernel"], disk / "EFI/BOOT/BOOTX64.EFI")
    shutil.copy(kernel, disk / "vmlinuz")
    shutil.copy(initramfs, disk / "initrd")
    (disk / "EFI/debian/grub.cfg").write_text(
        f"search --file --set=root /vmlinuz\nlinux /vmlinuz {machines.append_of(case)}\n"
        f"initrd /initrd\nboot\n")
    guest = start(session, case, ["-drive", f"file=fat:rw:{disk},format=raw,if=virtio"])
    to_the_end(session, case, guest)
    return f"Linux {guest.fact('kernel')}"


def ipxe(session, case):
    """iPXE, in the ROM of a network card, fetches Linux."""
    kernel, initramfs = parts_of(case)
    served = session.folder / "tftp"
    served.mkdir()
    shutil.copy(kernel, served / "vmlinuz")
    shutil.copy(initramfs, served / "initrd")
    (served / "boot.ipxe").write_text(
        f"#!ipxe\nkernel tftp://10.0.2.2/vmlinuz initrd=initrd {machines.append_of(case)}\n"
        f"initrd tftp://10.0.2.2/initrd\nboot\n")
    guest = start(session, case, [
        "-netdev", f"user,id=n,restrict=on,tftp={served},bootfile=boot.ipxe",
        "-device", "virtio-net-pci,netdev=n,bootindex=0"])
    to_the_end(session, case, guest)
    return f"Linux {guest.fact('kernel')}"


def memtest(session, case):
    """memtest86+ writes patterns everywhere: it must run out, and just then."""
    guest = start(session, case, ["-kernel", lib.guest_kit()["memtest"]])
    observer, _ = watch(session, case, guest)
    status = guest.wait(LIMIT_S)
    see_report(observer.report())
    lib.check(status == lib.EXIT_EXHAUSTED and "out of memory" in guest.stderr, guest.account())
    return "it runs out of memory, as it must: it leaves a pattern in all of it"


def qemu_version(case):
    program, _ = machines.qemu_of(case)
    done = subprocess.run([program, "--version"], text=True, capture_output=True, check=False)
    return ".".join(re.search(r"version (\d+)\.(\d+)", done.stdout).groups())


def record(case, outcome, note):
    results.keep("machines", case.key(lib.ACCEL, qemu_version(case)),
                 {"max": case.max, "target": case.target, "outcome": outcome, "note": note})


def is_wanted(case):
    name = f"{case.guest}, {case.machine}"
    return case.default if not WANTED else WANTED == "all" or WANTED in name


def test_of(case):
    """The test function of a case."""
    def test(session):
        try:
            note = globals()[case.how](session, case)
        except lib.Skip:
            raise
        except OSError as error:
            record(case, "failed", "QEMU ended")
            said = [path.read_text(errors="replace")[-600:]
                    for name in ("stderr", "serial") for path in session.folder.glob(f"*/{name}")]
            raise lib.Failed(f"QEMU ended: {error}: {said}") from None
        except Exception as error:  # pylint: disable=broad-except
            record(case, "failed", str(error).split(": ")[0])
            raise
        record(case, "works", note)

    test.__doc__ = f"{case.guest}, {case.machine}: max {case.max} in {case.target}"
    return test


if __name__ == "__main__":
    CHOSEN = [case for case in machines.CASES if is_wanted(case)]
    if not CHOSEN:
        sys.exit(f"no case has '{WANTED}' in its name")
    lib.run_tests(*[test_of(case) for case in CHOSEN])
