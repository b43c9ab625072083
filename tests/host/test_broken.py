#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What becomes of a domain whose state is wrong: something in the process drops memory behind the
agent's back. The guest is frozen, the process ends with status 88 and does not hang, and leaves a
report that tells what happened."""

import fcntl
import os
import re

import fake
from fake import EXIT_BROKEN, MIB, PAGE, check

RAM_MIB = 64
TARGET_MIB = 16
TARGET_PAGES = TARGET_MIB * MIB // PAGE


def start(session, words, **options):
    """A domain that does that, and then drops what it is told to, and then uses more memory."""
    return session.start("vm", ["block", "pc.ram", "memory-backend-ram", RAM_MIB, "private", *words],
                         TARGET_MIB, max_bytes=RAM_MIB * MIB, **options)


def drop(domain, what, offset_pages, pages):
    """Has it give part of its "ram" or "cache" to the kernel."""
    domain.wait_line("drop")
    described = domain.query()
    domain.go_on(f"{described[what + '_start'] + offset_pages * PAGE} {pages * PAGE}")


def must_be_broken(domain, noticed):
    """It ends with status 88, and reports what was noticed. Returns the report."""
    status, errors = domain.finish()
    check(status == EXIT_BROKEN, f"it ended with {status}, saying: {errors}")
    path = domain.folder / "report.txt"
    check(path.exists(), f"it left no report, but said: {errors}")
    report = path.read_text()
    check(path.stat().st_mode & 0o077 == 0, "the report is for its owner only")
    check(sorted(file.name for file in domain.folder.iterdir()) == ["report.txt"],
          "nothing else is left")
    first, _, rest = errors.partition("\n")
    check(re.match(f"ballast: internal error in {noticed} at gfn 0x", first), first)
    check(str(path) in first, "the line says where the report is")
    check(rest == report, "the report is printed too")
    for needed in ["noticed: in ", "equations: ", "programs: ballast ", "fake_qemu",
                   f"kernel: Linux {os.uname().release}", f"max {RAM_MIB * MIB // PAGE}",
                   "counters: faults ", "last operations", "set-target gfn", " populate gfn"]:
        check(needed in report, f"the report lacks '{needed}':\n{report}")
    return report


def use_and_set(domain):
    """An operation of each kind, for the report to tell of."""
    domain.wait_line("ready")
    client = domain.connect()
    for mib in (TARGET_MIB + 2, TARGET_MIB):
        reply = client.call("set-target", {"target_bytes": mib * MIB})
        check("return" in reply, reply)
    client.close()
    domain.go_on()


def test_cache_lost(session):
    """cached pages vanish: the guest stops at its next fault, with a report"""
    domain = start(session, ["touch", 0, 600, "give", 0, 2, "ready", "drop", "touch", 2048, 1,
                             "hang"])
    use_and_set(domain)
    drop(domain, "cache", 0, domain.query()["cache_bytes"] // PAGE)
    report = must_be_broken(domain, "populate")
    check(re.search(r"place gfn 0x800, .*ENOENT", report), report)
    check("inflate gfn" in report and "equations: all hold" in report, report)


def test_cache_lost_to_many(session):
    """the same while many threads fault, give memory up and discard: one report"""
    domain = start(session, ["touch", 0, 1, "ready", "churn", 8, 1, TARGET_MIB // 2, "drop", "hang"])
    use_and_set(domain)
    drop(domain, "cache", 0, domain.query()["cache_bytes"] // PAGE)
    status, errors = domain.finish()
    check(status == EXIT_BROKEN, f"it ended with {status}, saying: {errors}")
    check(errors.count("internal error") == 1 and errors.count("last operations") == 1, errors)


def test_ram_lost(session):
    """guest memory vanishes: the guest does not ask for it for ever"""
    domain = start(session, ["touch", 0, 600, "ready", "drop", "touch", 5, 1, "hang"])
    use_and_set(domain)
    drop(domain, "ram", 0, 8)
    report = must_be_broken(domain, "populate: a page is missing that should be in place,")
    check("there: gfn 0x5, state 1;" in report, report)


def test_ram_lost_under_us(session):
    """guest memory vanishes: a thread of ours that meets the hole is stuck, and that is noticed"""
    all_of_it = TARGET_PAGES + 2 * MIB // PAGE
    domain = start(session, ["touch", 0, 1, "ready", "touch", 0, all_of_it, "drop",
                             "touch", all_of_it, 1, "hang"], on_exhaustion="pause")
    use_and_set(domain)
    drop(domain, "ram", 0, TARGET_PAGES)
    must_be_broken(domain, "waiting for the domain's lock: a thread of ours is stuck")


def test_nobody_reads(session):
    """with nobody who reads what it says it ends all the same, and its guest runs no more"""
    ours, theirs = os.pipe()
    fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, PAGE)
    domain = start(session, ["touch", 0, 600, "ready", "drop", "touch", 2048, 1, "hang"],
                   stderr=theirs)
    use_and_set(domain)
    os.write(theirs, bytes(PAGE))
    described = domain.query()
    drop(domain, "cache", 0, described["cache_bytes"] // PAGE)
    report = domain.folder / "report.txt"
    fake.until(report.exists, "it should leave a report")
    check(not domain.resident(described, "ram"), "its memory should be out of the guest's reach")
    status, _ = domain.finish()
    check(status == EXIT_BROKEN, f"it ended with {status}")
    check("last operations" in report.read_text(), "the report is whole")
    os.close(ours)
    os.close(theirs)


def test_report_stays(session):
    """the report stays when a domain of the same name comes and goes, until destroy removes it"""
    domain = start(session, ["touch", 0, 600, "ready", "drop", "touch", 2048, 1, "hang"])
    use_and_set(domain)
    drop(domain, "cache", 0, domain.query()["cache_bytes"] // PAGE)
    must_be_broken(domain, "populate")
    report = domain.folder / "report.txt"
    check(session.ballast("ls").returncode == 0 and report.exists(), "ls should leave it")
    again = start(session, ["touch", 0, 1, "exit", 0])
    status, errors = again.finish()
    check(status == 0, f"the next one ended with {status}, saying: {errors}")
    check(report.exists(), "the next one should leave it")
    done = session.ballast("destroy", "vm")
    check(done.returncode == 0, done.stderr)
    check(not domain.folder.exists(), "destroy should remove it")


fake.run_tests(test_cache_lost, test_cache_lost_to_many, test_ram_lost,
               test_ram_lost_under_us, test_nobody_reads,
               test_report_stays)
