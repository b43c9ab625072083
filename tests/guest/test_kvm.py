#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What only KVM does: a vCPU that waits for a page waits in the kernel, where it can be kicked out of
it and then asks again; or it waits for a thread of the kernel that asks in its place, and that no
signal reaches."""

import pathlib

import lib


def waiters(threads, name=""):
    """The threads, of those that a pattern of /proc names, that wait for a page of a userfaultfd."""
    found = set()
    for wchan in pathlib.Path("/proc").glob(f"{threads}/wchan"):
        try:
            if (wchan.with_name("comm").read_text().startswith(name)
                    and wchan.read_text() == "handle_userfault"):
                found.add(wchan.parent)
        except OSError:
            pass  # it has ended
    return found


def kernel_waiters():
    """Those of the kernel's threads."""
    return waiters("[0-9]*", "kworker/")


def wait_dry(guest):
    """Waits until the guest has run out of memory."""
    def exhausted():
        lib.check(guest.alive(), f"it should wait, not end: {guest.account()}")
        return guest.stat()["state"] == "exhausted"
    lib.until(exhausted, lib.BOOT_LIMIT_S, "the guest should run dry", 0.2)


def start_memtest86(session):
    """memtest86+ with four CPUs, which has run out of memory and waits for more. It keeps interrupts
    off: the vCPU itself waits."""
    guest = session.start_guest("128M", "48M", kernel=lib.guest_kit()["memtest"],
                                options=["--on-exhaustion", "pause"], extra=["-smp", "4"])
    guest.wait_up()
    wait_dry(guest)
    return guest


def test_kicked_while_waiting(session):
    """a guest that waits for memory can be stopped and continued, and goes on with a larger
    target"""
    guest = start_memtest86(session)
    tasks = f"{guest.stat()['pid']}/task/[0-9]*"
    lib.until(lambda: waiters(tasks), 30, "a vCPU should wait for a page")
    qmp = guest.qmp()
    for _ in range(20):
        qmp.call("stop")
        lib.check(not waiters(tasks), "a guest that is stopped does not wait")
        qmp.call("cont")
        lib.until(lambda: waiters(tasks), 30, "a vCPU should wait for its page again")
    qmp.close()
    state = guest.stat()
    lib.check(state["state"] == "exhausted", str(state))
    observer = lib.Observer(session, guest.name)
    report = observer.stop()
    print("  " + lib.describe_report(report))
    lib.check(report["good"], f"the kernel's books say otherwise: {report}")
    done = session.ballast("set", guest.name, "96M")
    lib.check(done.returncode == 0, done.stderr)
    lib.until(lambda: guest.stat()["populated_pages"] > lib.size_to_pages("48M"),
              lib.BOOT_LIMIT_S, "the guest should go on", 0.1)


def test_killed_while_waiting(session):
    """a domain whose vCPU waits for memory can be killed and destroyed"""
    for how in ("killed", "destroyed"):
        guest = start_memtest86(session)
        if how == "killed":
            guest.process.kill()
            lib.check(guest.wait(30) == -9, guest.account())
        else:
            lib.check(session.ballast("destroy", guest.name).returncode == 0, "destroy")
            lib.check(guest.wait(30) == lib.EXIT_DESTROYED, guest.account())


def test_kernel_threads(session):
    """nothing is left of a domain that ends while threads of the kernel wait for its pages"""
    # Too small a target to boot in: the kernel runs dry when it unpacks its initramfs, say.
    guest = session.start_guest("1G", "72M", extra=["-smp", "2"], append="quiet",
                                options=["--on-exhaustion", "pause"])
    before = kernel_waiters()
    guest.wait_up()
    wait_dry(guest)
    own = kernel_waiters() - before
    print(f"  {len(own)} threads of the kernel wait for pages")
    lib.check(session.ballast("destroy", guest.name).returncode == 0, "destroy")
    lib.check(guest.wait(30) == lib.EXIT_DESTROYED, guest.account())
    lib.until(lambda: not own & kernel_waiters(), 30, "the kernel's threads should be free again")


lib.run_tests(test_kicked_while_waiting, test_killed_while_waiting, test_kernel_threads)
