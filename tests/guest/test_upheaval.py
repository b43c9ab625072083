#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What happens to a guest's memory over its life, all of it to one guest; and guests that start anew
again and again, children of QEMU, and a kernel that merges pages. The total never moves unasked.

BALLAST_REBOOTS is how often the guest reboots (once if it is not set)."""

import contextlib
import os
import pathlib

import lib
import pattern

KSM = pathlib.Path("/sys/kernel/mm/ksm")


def test_all_to_one(session):
    """a guest that runs dry, waits, grows, shrinks, is stopped, migrates and grows again"""
    guest = pattern.start(session, "512M", "64M", 48, accel=pattern.accel(),
                          options=["--on-exhaustion", "pause"])
    guest.wait_up()
    lib.until(lambda: guest.stat()["state"] == "exhausted", lib.BOOT_LIMIT_S, "it runs dry", 0.1)
    lib.check(guest.stat()["sweeps"] > 0, guest.stat())
    pattern.set_target(guest, "256M")
    pattern.wait_rounds(guest, 8)
    for target in ("256M", "320M", "192M", "256M"):
        pattern.set_target(guest, target)
        pattern.wait_settled(guest)
        pattern.wait_rounds(guest, 2)
    observer = lib.Observer(session, guest.name)
    qmp = guest.qmp()
    for _ in range(3):
        qmp.call("stop")
        qmp.call("cont")
        pattern.wait_rounds(guest, 1)

    address = f"unix:{session.folder}/move"
    there = pattern.start(session, "512M", "256M", 48, extra=["-incoming", address],
                          accel=pattern.accel())
    there.wait_up()
    there_observer = lib.Observer(session, there.name)
    pattern.stop_under_tcg(qmp)
    qmp.call("migrate", uri=address)
    lib.check(pattern.wait_migrated(qmp) == "completed", guest.account() + there.account())
    qmp.close()
    pattern.check_good(observer.stop(), show=True)
    pattern.destroy(guest)
    pattern.let_run(there)
    pattern.wait_rounds(there, 2)
    before = pattern.mem_total_pages(there)
    pattern.check_good(there_observer.stop(), show=True)
    pattern.set_target(there, "320M")
    lib.until(lambda: pattern.mem_total_pages(there) - before == lib.size_to_pages("64M"), 60,
              "the balloon should follow at the destination too")
    pattern.wait_rounds(there, 2)
    pattern.destroy(there)


def reset_early(guest, qmp):
    """Resets a guest whose kernel has just begun."""
    serial = guest.folder / "serial"
    lib.until(lambda: "Linux version" in guest.serial, lib.BOOT_LIMIT_S, "the kernel should start")
    lib.until(lambda: guest.stat()["populated_pages"] > lib.size_to_pages("32M"), lib.BOOT_LIMIT_S,
              "the kernel should use memory", 0.01)
    serial.write_text("")
    qmp.call("system_reset")


def test_reboots(session):
    """a guest that is reset in the midst of its boot, and one that reboots itself"""
    goal = int(os.environ.get("BALLAST_REBOOTS", "1"))
    guest = session.start_guest("512M", "160M", append="ballast.scenario=reboot ballast.size=32",
                                reboots=True, held=True)
    guest.wait_up()
    observer = lib.Observer(session, guest.name)
    qmp = guest.qmp()
    qmp.call("cont")
    for _ in range(3):
        reset_early(guest, qmp)

    def rebooted():
        lib.check(guest.alive(), f"QEMU ended: {guest.account()}")
        return guest.said().count("reboots") >= goal
    lib.until(rebooted, goal * lib.BOOT_LIMIT_S, f"the guest should reboot: {guest.account()}", 0.2)
    stat = guest.stat()
    pattern.check_good(observer.stop(), show=True)
    lib.check(stat["total_pages"] == stat["target_pages"], stat)
    print(f"  {guest.said().count('reboots')} reboots and 3 resets")
    pattern.destroy(guest)


def test_children(session):
    """QEMU forks while the guest runs: no page is lost to a child, and the total stays"""
    guest = pattern.start(session, "512M", "160M", 48, append="ballast.balloon=off init_on_free=1")
    guest.wait_up()
    observer = lib.Observer(session, guest.name)
    pattern.wait_rounds(guest, 2)
    qmp = guest.qmp()
    for _ in range(10):
        # The child lives on while the guest writes and pages are reclaimed.
        qmp.call("migrate", uri="exec:sleep 0.3; exit 1")
        pattern.wait_migrated(qmp)
        lib.until(lambda: qmp.call("query-status")["running"], 30, "the guest should go on")
    qmp.close()
    pattern.wait_rounds(guest, 2)
    pattern.check_good(observer.stop(), show=True)
    pattern.destroy(guest)


@contextlib.contextmanager
def merging():
    """The kernel merges equal pages as fast as it can."""
    if not os.access(KSM / "run", os.W_OK):
        raise lib.Skip("no KSM that this user may start")
    before = {name: (KSM / name).read_text() for name in ("run", "pages_to_scan", "sleep_millisecs")}
    try:
        for name, value in (("pages_to_scan", "5000"), ("sleep_millisecs", "20"), ("run", "1")):
            (KSM / name).write_text(value)
        yield
    finally:
        for name, value in before.items():
            (KSM / name).write_text(value)


def test_merging(session):
    """with KSM at work, and QEMU asking for it, nothing of the guest's is merged; and what QEMU wants \
in no core dump is in none"""
    with merging():
        scans = int((KSM / "full_scans").read_text())
        guest = pattern.start(session, "512M", "160M", 48, append="ballast.balloon=off "
                              "init_on_free=1", extra=["-machine", "mem-merge=on,dump-guest-core=off"])
        guest.wait_up()
        observer = lib.Observer(session, guest.name)
        pattern.wait_rounds(guest, 4)
        lib.until(lambda: int((KSM / "full_scans").read_text()) >= scans, 60, "KSM should scan")
        stat = guest.stat()
        smaps = pathlib.Path(f"/proc/{stat['pid']}/smaps").read_text()
        for what in ("ram", "cache"):
            part = smaps.split(f"{stat[f'{what}_start']:x}-", 1)
            lib.check(len(part) == 2, f"{what} should be one mapping")
            flags = part[1].split("VmFlags:", 1)[1].split("\n", 1)[0].split()
            lib.check("mg" not in flags, f"the kernel may merge {what}: {flags}")
            lib.check("dd" in flags, f"{what} would be in a core dump: {flags}")
        pattern.check_good(observer.stop(), show=True)
        pattern.destroy(guest)


lib.run_tests(test_all_to_one, test_reboots, test_children, test_merging)
