# SPDX-License-Identifier: MIT
"""Guests that check their memory (the scenarios pattern and balloon of scripts/guest-init), and what
is done to them."""

import functools
import re
import time

import lib

SETTLE_LIMIT_S = 120
# What `ballast run` gives a guest; for ends of a migration that must all be alike.
BALLOON = ["-device", "virtio-balloon-pci,id=ballast-balloon,free-page-reporting=on"]


def start(session, maximum, target, size, append="", extra=(), **options):
    """A guest that runs the program pattern on so many MiB, under Ballast or plain."""
    return session.start_guest(maximum, target, extra=[*BALLOON, *extra],
                               append=f"ballast.scenario=pattern ballast.size={size} {append}",
                               **options)


def wait_rounds(guest, rounds):
    """Waits until the guest has found all of its data intact some more times."""
    goal = len(guest.said()) + rounds

    def said():
        lib.check("DAMAGED" not in guest.serial, f"data changed: {guest.account()}")
        lib.check(guest.alive(), f"QEMU ended: {guest.account()}")
        return len(guest.said()) >= goal
    lib.until(said, lib.BOOT_LIMIT_S, f"the guest should check its data: {guest.account()}", 0.2)


def mem_total_pages(guest):
    """What the guest last said of its memory, without what its balloon holds."""
    return int(re.findall(r"MemTotal (\d+) kB", guest.serial)[-1]) // 4


def settled(stat):
    """Has the balloon done what the target asks for?"""
    return (stat is not None and stat["state"] == "running" and not stat["shrinking"] and
            stat["total_pages"] == stat["target_pages"] and
            stat["out_pages"] == stat["max_pages"] - stat["target_pages"])


def wait_settled(guest):
    """Waits until the balloon has followed, and holds the counts against each other and against
    the kernel's."""
    lib.until(lambda: settled(guest.stat()), SETTLE_LIMIT_S,
              f"{guest.name} should settle: {guest.stat()}", 0.2)
    observer = lib.Observer(guest.session, guest.name)
    time.sleep(0.5)
    check_good(observer.stop())
    stat = guest.stat()
    lib.check(stat["covered"], f"what has settled is covered: {stat}")
    lib.check(stat["cache_pages"] == stat["pod_entries_pages"],
              f"a full balloon leaves C = E: {stat}")
    return stat


def set_target(guest, size):
    """Changes the target and waits for the balloon."""
    done = guest.session.ballast("set", guest.name, size, "--wait", "--timeout",
                                 round(lib.seconds(100)), limit_s=120)
    lib.check(done.returncode == 0, f"ballast set {size}: {done.stdout}{done.stderr}")


def check_good(report, show=False):
    """Holds an observer's report against what must be."""
    if show:
        print("  " + lib.describe_report(report))
    lib.check(report["good"], f"the kernel's books say otherwise: {report}")


def destroy(guest):
    """Ends a domain and checks that nothing of it is left."""
    lib.check(guest.session.ballast("destroy", guest.name).returncode == 0, "destroy")
    lib.check(guest.wait() == lib.EXIT_DESTROYED, guest.account())
    lib.check(guest.session.nothing_left(guest.name), "the domain's folder is still there")


def wait_migrated(qmp):
    """Waits for the end of a migration; returns its final status."""
    def ended():
        status = qmp.call("query-migrate").get("status")
        return status if status in ("completed", "failed", "cancelled") else None
    return lib.until(ended, lib.BOOT_LIMIT_S, "the migration should end", 0.1)


@functools.cache
def accel():
    """What guests that migrate run under: KVM if it works, for a guest must run meanwhile."""
    try:
        lib.require_kvm()
    except lib.Skip:
        return "tcg"
    return "kvm"


def stop_under_tcg(qmp):
    """Before a migration. Under TCG QEMU 7.2 may lose what a guest writes while it migrates, also
    without Ballast: seen in four of five runs at the default bandwidth."""
    if accel() == "tcg":
        qmp.call("stop")


def let_run(guest):
    """After a migration to here: until QEMU says that the guest runs."""
    qmp = guest.qmp()
    lib.until(lambda: qmp.call("query-status")["status"] in ("running", "paused"), 60,
              f"{guest.name} should have arrived")
    qmp.call("cont")
    lib.until(lambda: qmp.call("query-status")["running"], 60, f"{guest.name} should run")
    qmp.close()
