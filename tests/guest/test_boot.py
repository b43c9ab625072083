#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Boots Debian's kernel in less memory than it believes to have, while the host's accounting is
watched from outside.

test_boot.py ACCEL CASE..., a CASE being MAX/TARGET, with /memtest if the kernel shall scrub all of
its memory at boot, and with /compare if MemTotal is to be compared with that under plain QEMU.
"""

import sys

import lib


def boot(case, accel):
    """The test function of a case."""
    maximum, target, *options = case.split("/")
    append = "memtest=1" if "memtest" in options else ""

    def test(session):
        if accel == "kvm":
            lib.require_kvm()
        guest, _ = lib.observed_boot(session, maximum, target, accel=accel, append=append)
        print(f"  MemTotal {guest.fact('MemTotal')}")
        if append:
            lib.check("memtest" in guest.serial.split("Kernel command line")[-1],
                      "the kernel did not scrub its memory")
            lib.check("early_memtest: # of tests: 1" in guest.serial,
                      "the kernel did not say that it scrubs its memory")
        if "compare" in options:
            plain = session.boot(maximum, accel=accel, append=append)
            lib.check(plain.fact("MemTotal") == guest.fact("MemTotal"),
                      f"MemTotal is {guest.fact('MemTotal')}, and {plain.fact('MemTotal')} under "
                      f"plain QEMU")

    test.__doc__ = f"boot with max {maximum} in {target}{', ' + append if append else ''}, {accel}"
    return test


lib.run_tests(*[boot(case, sys.argv[1]) for case in sys.argv[2:]])
