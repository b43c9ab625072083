#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""virsh setmem sets the target of a running domain, both ways, and what virsh shows is what the host
gives."""

import json

import private
import lib  # found by what private adds to the path  # pylint: disable=wrong-import-order
from private import KIB_PER_MIB, check, until


def monitor(domain, command, **arguments):
    """A QMP command through libvirt: what it returned."""
    words = json.dumps({"execute": command, "arguments": arguments})
    return json.loads(domain.virsh("qemu-monitor-command", words))


def setmem(domain, mib):
    """virsh setmem on the running domain."""
    domain.virsh("setmem", f"{mib}M", "--live")


def wait_settled(domain, mib):
    """Until the domain has that, its guest's balloon has followed, and libvirt says so, too."""
    pages = lib.size_to_pages(f"{mib}M")

    def settled():
        stat = domain.stat()
        check(stat is not None, f"it should answer: {domain.account()}")
        return stat["total_pages"] == stat["target_pages"] == pages and \
            stat["out_pages"] == stat["max_pages"] - pages
    until(settled, 120, f"{domain.name} should settle at {mib} MiB: {domain.stat()}", 0.2)
    until(lambda: domain.info_mib("Used memory") == mib, 30,
          f"dominfo should say {mib} MiB: {domain.virsh('dominfo')}", 0.5)
    check(domain.memory_stats()["actual"] == mib * KIB_PER_MIB, domain.memory_stats())
    check(monitor(domain, "query-balloon")["return"]["actual"] == mib << 20, "query-balloon")
    domain.check_total(f"{mib}M")


def test_both_ways(session):
    """setmem grows and shrinks it, and dominfo, dommemstat and the monitor say what is true"""
    domain = session.start_pattern("web", "1G", "256M")
    domain.wait_rounds(2)
    wait_settled(domain, 256)
    for mib in (512, 256):
        setmem(domain, mib)
        check(domain.stat()["target_pages"] == mib * 256, domain.stat())
        wait_settled(domain, mib)
    # What is set with Ballast, libvirt hears of.
    check(session.ballast("set", "web", "320M").returncode == 0, "ballast set")
    wait_settled(domain, 320)
    domain.wait_rounds(1)


def test_no_driver(session):
    """as long as its guest knows of no balloon, virsh says what the host gives, and growing works"""
    domain = session.define("web", "1G", "128M")
    domain.virsh("start", "--paused")
    check(domain.info_mib("Used memory") == 128 and domain.info_mib("Max memory") == 1024,
          domain.virsh("dominfo"))
    check(domain.memory_stats()["actual"] == 128 * KIB_PER_MIB, domain.memory_stats())
    setmem(domain, 192)
    domain.check_total("192M")
    until(lambda: domain.info_mib("Used memory") == 192, 30,
          f"libvirt should hear of it: {domain.virsh('dominfo')}", 0.5)
    # A smaller target stands, but what the guest may still touch it keeps.
    setmem(domain, 128)
    stat = domain.stat()
    check((stat["target_pages"], stat["total_pages"]) == (128 * 256, 192 * 256), stat)
    check(domain.memory_stats()["actual"] == 192 * KIB_PER_MIB, domain.memory_stats())


def test_refused(session):
    """setmem beyond what the host has, or the guest, is refused, and nothing has changed"""
    domain = session.define("web", "64G", "128M")
    domain.virsh("start", "--paused")
    said = session.refused("setmem", "web", "63G", "--live")
    check("the host can give" in said, said)
    domain.check_total("128M")
    said = session.refused("setmem", "web", "65G", "--live")
    check("higher" in said or "maximum" in said or "cannot set memory" in said, said)
    said = monitor(domain, "balloon", value=4096)
    check("the target must be at least 2 MiB" in said["error"]["desc"], said)
    for arguments in ({}, {"value": "1G"}, {"value": -1}, {"value": 1 << 28, "more": 1}):
        check("error" in monitor(domain, "balloon", **arguments), arguments)
    domain.check_total("128M")
    # What the host has is brought while QEMU's main thread does other things.
    setmem(domain, 2048)
    domain.check_total("2G")


private.run_tests(test_both_ways, test_no_driver, test_refused)
