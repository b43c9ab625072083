#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Boots Debian's kernel in less memory than it believes to have, while the host's accounting is
watched from outside.

test_boot.py ACCEL CASE..., a CASE being MAX/TARGET, with /memtest if the kernel shall scrub all of
its memory at boot, and with /compare if MemTotal is to be compared with that under plain QEMU. The
TARGET "tight" is one so small that single pages have to be found and moved.
"""

import sys

import lib


# What a guest of 1 GiB needs is up to its kernel (bench/smallest-target): Linux 6.1 writes to 92 to
# 94 MiB before it is up, 6.12 to more than 96.
TIGHT = {"6.1": "96M"}
TIGHT_OF_OTHERS = "104M"


def tight_target():
    """The tight target for the guest kit's kernel."""
    version = ".".join(lib.guest_kit()["release"].split(".")[:2])
    return TIGHT.get(version, TIGHT_OF_OTHERS)


def boot(case, accel):
    """The test function of a case."""
    maximum, wanted, *options = case.split("/")
    append = "memtest=1" if "memtest" in options else ""

    def test(session):
        target = tight_target() if wanted == "tight" else wanted
        print(f"  target {target}, guest kernel {lib.guest_kit()['release']}")
        guest, _ = lib.observed_boot(session, maximum, target, accel=accel, append=append)
        print(f"  MemTotal {guest.fact('MemTotal')}")
        if append:
            lib.check("memtest" in guest.serial.split("Kernel command line")[-1],
                      "the kernel did not scrub its memory")
            lib.check("early_memtest: # of tests: 1" in guest.serial,
                      "the kernel did not say that it scrubs its memory")
        if "compare" in options:
            # On a busy machine a plain guest (Linux 6.12) itself reads a page less now and then.
            seen = []
            while guest.fact("MemTotal") not in seen:
                lib.check(len(seen) < 3, f"MemTotal is {guest.fact('MemTotal')}, and {seen} under "
                          f"plain QEMU")
                seen.append(session.boot(maximum, accel=accel, append=append).fact("MemTotal"))

    test.__doc__ = f"boot with max {maximum} in {wanted}{', ' + append if append else ''}, {accel}"
    return test


lib.run_tests(*[boot(case, sys.argv[1]) for case in sys.argv[2:]], accel=sys.argv[1])
