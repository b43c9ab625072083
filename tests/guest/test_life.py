#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What comes after the boot: the balloon takes over, the target changes, the guest is reset, runs
dry and goes on, moves to another process. Its data stays as it was throughout."""

import json
import os
import pathlib
import subprocess
import time

import lib
from pattern import SETTLE_LIMIT_S, mem_total_pages, set_target, settled, wait_rounds, wait_settled

# Each round of the guest that says "intact" has read all of its data.
DATA_MIB = 24
# How often the target goes up and down: more in a long run (docs/testing.md).
TARGET_ROUNDS = int(os.environ.get("BALLAST_TARGET_ROUNDS", "1"))


def start_balloon_guest(session, maximum, target, **options):
    return session.start_guest(maximum, target, append="ballast.scenario=balloon "
                               f"ballast.size={DATA_MIB}", **options)


def test_targets(session):
    """the balloon settles, and follows the target up and down, with the same counts each time"""
    events = session.start([lib.build_dir() / "tools/ballast", "events", "--json"],
                           stdout=subprocess.PIPE, text=True)
    guest = start_balloon_guest(session, "4G", "512M")
    guest.wait_said("scenario balloon")
    low = wait_settled(guest)
    wait_rounds(guest, 2)
    small = mem_total_pages(guest)
    for _ in range(TARGET_ROUNDS):
        set_target(guest, "2G")
        high = wait_settled(guest)
        lib.check(high["target_pages"] == lib.size_to_pages("2G"), str(high))
        wait_rounds(guest, 2)
        grown = mem_total_pages(guest) - small
        lib.check(grown == lib.size_to_pages("1536M"), f"the guest sees {grown} pages more")
        set_target(guest, "512M")
        again = wait_settled(guest)
        for key in ("max_pages", "target_pages", "total_pages", "out_pages"):
            lib.check(again[key] == low[key], f"{key} was {low[key]}, is {again[key]}")
        wait_rounds(guest, 2)
        lib.check(mem_total_pages(guest) == small, "the guest has what it had")

    for size, why in (("8G", "at most"), ("1M", "at least"), ("512", "unit")):
        done = session.ballast("set", guest.name, size)
        lib.check(done.returncode != 0 and why in done.stderr, f"set {size}: {done}")
    lib.check(guest.stat()["target_pages"] == low["target_pages"], "a refusal changes nothing")

    lib.check(session.ballast("destroy", guest.name).returncode == 0, "destroy")
    lib.check(guest.wait() == lib.EXIT_DESTROYED, guest.account())
    lib.check(session.nothing_left(guest.name), "the domain's folder is still there")
    time.sleep(1)
    events.terminate()
    names = [json.loads(line)["event"] for line in events.communicate()[0].splitlines()]
    for name in ("BUILT", "COVERED", "TARGET_CHANGED", "TARGET_REACHED", "DYING", "GONE"):
        lib.check(name in names, f"there should be an event {name}: {names}")
    lib.check(names[0] == "BUILT" and names[-1] == "GONE", str(names))


def test_free_page_reports(session):
    """what the guest frees and reports is in the cache again, without a look at it"""
    guest = session.start_guest("512M", "512M", append="ballast.scenario=reports ballast.size=128")
    guest.wait_said("filled 128 MiB")
    observer = lib.Observer(session, guest.name)
    full = guest.stat()
    guest.wait_said("freed 128 MiB")
    # The driver reports every two seconds, blocks of 2 MiB and more.
    goal = full["populated_pages"] - lib.size_to_pages("96M")
    lib.until(lambda: guest.stat()["populated_pages"] <= goal, lib.BOOT_LIMIT_S,
              "the freed memory should come back", 0.1)
    after = guest.stat()
    report = observer.stop()
    print(f"  populated {full['populated_pages']} pages, then {after['populated_pages']}; "
          f"{after['discarded_pages']} discarded, {after['cache_superpages']} superpages cached")
    lib.check(report["good"], f"the kernel's books say otherwise: {report}")
    lib.check(after["sweeps"] == after["reclaimed_2m"] == after["reclaimed_4k"] == 0,
              f"nothing was searched for: {after}")


def cpu_seconds(pid, names):
    """What the threads of these names have used so far."""
    used = {}
    for stat in pathlib.Path(f"/proc/{pid}/task").glob("*/stat"):
        name, _, rest = stat.read_text().partition("(")[2].rpartition(")")
        fields = rest.split()
        if name in names:
            used[name] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    lib.check(set(used) == set(names), f"threads are missing: {used}")
    return used


def test_idle(session):
    """a domain that is covered costs no CPU of ours while its guest does nothing"""
    guest = session.start_guest("512M", "256M", append="ballast.scenario=reports ballast.size=1",
                                extra=["-smp", "2"])
    guest.wait_said("filled 1 MiB")
    lib.until(lambda: settled(guest.stat()), SETTLE_LIMIT_S, "it should settle", 0.2)
    qmp = guest.qmp()
    qmp.call("stop")
    time.sleep(0.5)
    pid = guest.stat()["pid"]
    threads = ("ballast-fault", "ballast-upkeep")
    before = cpu_seconds(pid, threads)
    time.sleep(2)
    after = cpu_seconds(pid, threads)
    qmp.close()
    lib.check(before == after, f"our threads worked: {before}, {after}")


def test_host_lacks_memory(session):
    """a target that the host cannot give is refused, and nothing changes"""
    guest = session.start_guest("256G", "64M", held=True)
    guest.wait_up()
    before = guest.stat()
    done = session.ballast("set", guest.name, "250G")
    lib.check(done.returncode != 0 and "the host" in done.stderr, str(done))
    print(f"  {done.stderr.strip()}")
    after = guest.stat()
    for key in ("target_pages", "total_pages", "cache_pages"):
        lib.check(before[key] == after[key], f"{key} changed: {after}")


def test_reset(session):
    """a guest that is reset once its balloon has settled: the total never moves"""
    guest = start_balloon_guest(session, "512M", "192M", reboots=True, held=True)
    guest.wait_up()
    observer = lib.Observer(session, guest.name)
    qmp = guest.qmp()
    qmp.call("cont")
    guest.wait_said("scenario balloon")
    lib.until(lambda: settled(guest.stat()), SETTLE_LIMIT_S, f"settled: {guest.stat()}", 0.2)
    wait_rounds(guest, 2)
    serial = guest.folder / "serial"
    serial.write_text("")  # QEMU appends where it was: what follows is the next boot's
    qmp.call("system_reset")
    lib.until(lambda: guest.stat()["out_pages"] == 0 or "scenario balloon" in guest.said(),
              lib.BOOT_LIMIT_S, "the reset should give back what was out", 0.01)
    guest.wait_said("scenario balloon")
    session.ballast("destroy", guest.name)
    lib.check(guest.wait() == lib.EXIT_DESTROYED, guest.account())
    report = observer.report()
    print("  " + lib.describe_report(report))
    lib.check(report["good"], f"the kernel's books say otherwise: {report}")


def test_pause(session):
    """a guest that runs dry waits, QMP answers, and a larger target lets it go on"""
    guest = session.start_guest("128M", "64M", kernel=lib.guest_kit()["memtest"],
                                options=["--on-exhaustion", "pause"], extra=["-smp", "4"])
    guest.wait_up()

    def exhausted():
        lib.check(guest.alive(), f"it should wait, not end: {guest.account()}")
        return guest.stat()["state"] == "exhausted"
    lib.until(exhausted, lib.BOOT_LIMIT_S, "the guest should run dry", 0.2)
    qmp = guest.qmp()
    lib.check(qmp.call("query-status")["running"], "QMP answers")
    qmp.close()
    before = guest.stat()
    lib.check(before["total_pages"] == lib.size_to_pages("64M"), str(before))
    set_target(guest, "96M")
    lib.until(lambda: guest.stat()["populated_pages"] > before["total_pages"], lib.BOOT_LIMIT_S,
              "the guest should go on", 0.1)
    lib.until(exhausted, lib.BOOT_LIMIT_S, "the guest should run dry again", 0.2)
    set_target(guest, "128M")
    lib.until(lambda: guest.stat()["covered"], lib.BOOT_LIMIT_S, "then it has all", 0.1)
    lib.until(lambda: guest.stat()["state"] == "running", lib.BOOT_LIMIT_S, "it runs", 0.1)
    lib.check(session.ballast("destroy", guest.name).returncode == 0, "destroy")
    lib.check(guest.wait() == lib.EXIT_DESTROYED, guest.account())


def test_destroy_while_waiting(session):
    """ballast destroy ends a guest that waits for memory"""
    guest = session.start_guest("128M", "48M", kernel=lib.guest_kit()["memtest"],
                                options=["--on-exhaustion", "pause"])
    guest.wait_up()
    lib.until(lambda: guest.stat()["state"] == "exhausted", lib.BOOT_LIMIT_S, "it runs dry", 0.2)
    lib.check(session.ballast("destroy", guest.name).returncode == 0, "destroy")
    lib.check(guest.wait() == lib.EXIT_DESTROYED, guest.account())
    lib.check(session.nothing_left(guest.name), "the domain's folder is still there")


def migrate_to_file(guest, path):
    """Migrates a guest out. QEMU reads all of its memory for that."""
    qmp = guest.qmp()
    qmp.call("migrate", uri=f"exec:cat >{path}")

    def done():
        status = qmp.call("query-migrate").get("status")
        lib.check(status not in ("failed", "cancelled"), f"the migration {status}")
        return status == "completed"
    lib.until(done, lib.BOOT_LIMIT_S, "the guest should migrate", 0.1)
    qmp.close()


def test_migration(session):
    """a guest migrates out of one domain, into another, out again and into plain QEMU: its data
    goes along, and both domains keep to their targets"""
    state = session.folder / "state"
    first = start_balloon_guest(session, "512M", "192M")
    first.wait_said("scenario balloon")
    wait_settled(first)
    wait_rounds(first, 1)
    observer = lib.Observer(session, first.name)
    migrate_to_file(first, state)
    report = observer.stop()
    lib.check(report["good"], f"the kernel's books of the source say otherwise: {report}")
    stat = first.stat()
    # Some of it may have been GIVEN when QEMU was told what to skip, and collected since.
    lib.check(settled(stat) and stat["covered"] and stat["out_touched"] < stat["out_pages"] / 16,
              f"what the guest gave up need not be read: {stat}")
    session.ballast("destroy", first.name)
    first.wait()

    incoming = ["-incoming", f"exec:cat {state}"]
    second = start_balloon_guest(session, "512M", "192M", extra=incoming)
    second.wait_up()
    observer = lib.Observer(session, second.name)
    wait_rounds(second, 2)
    migrate_to_file(second, state)
    report = observer.stop()
    print("  " + lib.describe_report(report))
    lib.check(report["good"], f"the kernel's books of the destination say otherwise: {report}")
    session.ballast("destroy", second.name)
    second.wait()

    # `ballast run` gave it a balloon; a plain QEMU must be given the same.
    balloon = ["-device", "virtio-balloon-pci,id=ballast-balloon,free-page-reporting=on"]
    third = start_balloon_guest(session, "512M", None, extra=[*balloon, *incoming])
    wait_rounds(third, 2)


def test_options(session):
    """what QEMU may be told to do with its memory: lock it, allocate it at once, a sandbox"""
    _, report = lib.observed_boot(session, "512M", "160M", extra=[
        "-overcommit", "mem-lock=on",
        "-machine", "memory-backend=r", "-object",
        "memory-backend-ram,id=r,size=512M,prealloc=on,prealloc-threads=2",
        "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"])
    print(f"  {lib.describe_report(report)}")


def test_dump(session):
    """a dump of all guest memory reads every PoD entry, and the total stays"""
    guest = start_balloon_guest(session, "512M", "192M")
    guest.wait_said("scenario balloon")
    wait_settled(guest)
    observer = lib.Observer(session, guest.name)
    qmp = guest.qmp()
    qmp.call("dump-guest-memory", paging=False, protocol=f"file:{guest.folder}/dump")
    qmp.close()
    stat = guest.stat()
    lib.check(settled(stat) and stat["covered"], f"what was read is given up as before: {stat}")
    print(f"  {stat['out_touched']} pages read that had been given up, {stat['sweeps']} sweeps")
    (guest.folder / "dump").unlink()
    wait_rounds(guest, 2)
    report = observer.stop()
    lib.check(report["good"], f"the kernel's books say otherwise: {report}")


lib.run_tests(test_targets, test_free_page_reports, test_idle, test_host_lacks_memory, test_reset,
              test_pause, test_destroy_while_waiting, test_migration, test_options, test_dump)
