#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A guest that needs more than its target: the domain ends with one clear line and the documented
status, at once and with nothing left over."""

import os
import re

import lib


def check_exhausted(session, guest, target):
    """Holds the end of a guest against what exhaustion must look like."""
    status = guest.wait()
    lib.check(status == lib.EXIT_EXHAUSTED, f"the exit status should be {lib.EXIT_EXHAUSTED}: "
              f"{guest.account()}")
    lines = guest.stderr.splitlines()
    lib.check(len(lines) == 1, f"there should be one line on standard error: {lines}")
    print(f"  {lines[0]}")
    lib.check(lines[0].startswith("ballast: out of memory: "), lines[0])
    lib.check(re.search(r"gfn 0x[0-9a-f]+", lines[0]), f"the line should name the gfn: {lines[0]}")
    lib.check(f" {lib.size_to_pages(target)} pages" in lines[0],
              f"the line should say the total: {lines[0]}")
    lib.check(re.search(r" \d+ PoD entries", lines[0]),
              f"the line should say how many entries are left: {lines[0]}")
    lib.check("--target" in lines[0], f"the line should say what to do: {lines[0]}")
    lib.check(session.nothing_left(guest.name), "the domain's folder is still there")
    lib.check(not os.path.exists(f"/proc/{guest.process.pid}"),
              "the process and with it its memory are still there")
    lib.check(not list(session.domain_pids()), "something still holds the domain's lock")
    again = session.ballast("ls", "--json")
    lib.check(again.returncode == 0 and guest.name not in again.stdout, again.stdout)


def run_out(session, maximum, target, **options):
    """Starts a guest that runs out, observed from before its first instruction."""
    guest = session.start_guest(maximum, target, held=True, **options)
    guest.wait_up()
    observer = lib.Observer(session, guest.name)
    qmp = guest.qmp()
    qmp.call("cont")
    check_exhausted(session, guest, target)
    report = observer.report()
    print("  " + lib.describe_report(report))
    lib.check(report["good"], f"the kernel's books say otherwise: {report}")
    return guest


def test_memtest86(session):
    """memtest86+, which writes patterns over all memory"""
    run_out(session, "512M", "48M", kernel=lib.guest_kit()["memtest"])


def test_linux_fills_memory(session):
    """Linux, which keeps more data in a file system in memory than the target has room for"""
    guest = run_out(session, "1G", "160M", append="ballast.scenario=fill ballast.size=300")
    lib.check("scenario fill" in guest.said(), f"the guest should have booted: {guest.account()}")


def test_too_small_to_boot(session):
    """a target too small for the kernel image"""
    run_out(session, "1G", "32M")


lib.run_tests(test_memtest86, test_linux_fills_memory, test_too_small_to_boot)
