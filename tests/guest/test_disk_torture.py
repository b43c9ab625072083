#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A guest reads and writes a disk with cache=none, so that the host's kernel and its devices write
right into guest RAM, while its target and its balloon go up and down: it finds every byte that it
read, and so does the disk, and the kernel's accounting agrees. $BALLAST_DISK_SECONDS: how long."""

import os
import random
import tempfile
import time

import lib
import pattern

MAXIMUM, SIZE = "512M", 40
TARGETS = ("176M", "200M", "256M", "320M")
DISK_BYTES = 48 << 20
SECONDS = float(os.environ.get("BALLAST_DISK_SECONDS", "15"))


def require_direct(folder):
    """A file for the disk, on a file system that reads past its page cache."""
    image = os.path.join(folder, "disk")
    with open(image, "wb") as file:
        file.truncate(DISK_BYTES)
    try:
        os.close(os.open(image, os.O_RDWR | os.O_DIRECT))
    except OSError:
        raise lib.Skip(f"the file system of {folder} has no O_DIRECT") from None
    return image


def torture(aio):
    """The test function for one of QEMU's ways to read a disk."""
    def test(session):
        with tempfile.TemporaryDirectory(prefix="ballast-disk-", dir="/var/tmp") as folder:
            drive = f"file={require_direct(folder)},format=raw,if=virtio,cache=none,aio={aio}"
            run(session, drive)

    test.__doc__ = f"a disk with cache=none,aio={aio} while memory comes and goes"
    return test


def run(session, drive):
    """One guest, until it has done its work."""
    guest = session.start_guest(MAXIMUM, TARGETS[0], extra=[*pattern.BALLOON, "-drive", drive],
                                append=f"ballast.scenario=disktorture ballast.size={SIZE}")
    try:
        guest.wait_up()
    except lib.Failed:
        if "aio=" in guest.stderr and not guest.alive():
            raise lib.Skip(f"this QEMU or this kernel cannot: {guest.stderr.strip()}") from None
        raise
    observer = lib.Observer(session, guest.name, (TARGETS[0], TARGETS[-1]))
    lib.until(lambda: "intact" in guest.serial or not guest.alive(), lib.BOOT_LIMIT_S,
              "the guest should begin", 0.2)
    pattern.wait_rounds(guest, 3)
    rng, changes, started = random.Random(1), 0, time.monotonic()
    while time.monotonic() < started + lib.seconds(SECONDS):
        done = session.ballast("set", guest.name, rng.choice(TARGETS))
        lib.check(done.returncode == 0, f"ballast set: {done.stderr}")
        changes += 1
        time.sleep(rng.choice((0, 0.1, 1)))
        lib.check("DAMAGED" not in guest.serial, f"data changed: {guest.account()}")
    pattern.wait_rounds(guest, 3)
    report = observer.stop()
    stat = guest.stat()
    print("  " + lib.describe_report(report))
    print(f"  {changes} targets; {guest.said()[-1]}; busy {stat['busy_skips']}, reclaimed "
          f"{stat['reclaimed_2m']}+{stat['reclaimed_4k']}, given up {stat['given_up_pages']}, taken "
          f"back {stat['taken_back_pages']}")
    pattern.check_good(report)
    lib.check(stat["given_up_pages"] > 0, f"the balloon should have moved: {stat}")
    pattern.destroy(guest)


lib.run_tests(torture("native"), torture("io_uring"))
