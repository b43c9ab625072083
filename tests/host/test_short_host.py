#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Hosts that are short of memory: a memory cgroup stands for the host. Domains are started until there
is no more, in tight limits, at once, with swap and with a kernel that searches for pages of zeros.
docs/hostile.md says what must come of each."""

import time

import fake
import pressure
from fake import MIB, PAGE, check, until

RAM_MIB = 64
RAM_PAGES = RAM_MIB * MIB // PAGE
RAM = ["block", "pc.ram", "memory-backend-ram", RAM_MIB, "private"]
# include/ballast/protocol.h, src/host/memory.h
EXIT_REFUSED, HEADROOM_MIB = 84, 64
DONTNEED = 4  # MADV_DONTNEED
THP = "/sys/kernel/mm/transparent_hugepage/"


def refused(domain):
    """Whether it was refused for want of memory, in one line; it must have been that or run."""
    status, errors = domain.finish()
    if status != EXIT_REFUSED:
        return False
    check(errors.startswith("ballast: the host cannot give the target: ") and errors.count("\n") == 1,
          errors)
    check(not domain.folder.exists(), "it left its folder")
    return True


def is_built(domain):
    """Waits for the end of its build: true if it runs then, false if it ends."""
    try:
        client = domain.connect()
        while client.call("query-domain")["return"]["state"] == "building":
            time.sleep(0.005)
    except fake.Gone:
        return False
    return True


def test_until_the_host_has_no_more(session):
    """domains are started until the host has no more: the last is refused in one line, the others go
    on and never notice, and nobody is killed"""
    with pressure.Cgroup(240) as host:
        domains, observers = [], []
        for number in range(10):
            domain = session.start(f"vm{number}", [*RAM, "churn", 1, number + 1, 4, "ready", "hang"],
                                   40, before=host.enter)
            if not is_built(domain):
                check(refused(domain), f"{domain.name} ended otherwise: {domain.finish()}")
                break
            domain.wait_line("ready")
            domains.append(domain)
            observers.append(fake.Observer(session, domain.name))
        check(2 <= len(domains) <= (240 - HEADROOM_MIB) // 40, f"{len(domains)} were started")
        grower = domains[0].connect()
        for mib in (48, 56, 64):  # nor can one of them have what is not there
            reply = grower.call("set-target", {"target_bytes": mib * MIB})
            check("return" in reply or reply["error"]["class"] == "HostMemory", reply)
            call = grower.call("set-target", {"target_bytes": 40 * MIB})
            check("return" in call, call)
            if "error" in reply:
                break
        for observer in observers[1:]:
            observer.stop()
        observers[0].process.terminate()  # its target has changed
        observers[0].process.communicate()
        for domain in domains:
            check(domain.process.poll() is None, f"{domain.name} ended: {domain.process.poll()}")
            domain.connect().call("destroy")
            domain.must_end_destroyed()
        check(host.killed() == 0, f"{host.killed()} were killed")
        print(f"  {len(domains)} domains of 40 MiB in 240 MiB")


def test_builds_at_once(session):
    """builds at once that together exceed the host: those that do not fit are refused, and nobody is
    killed"""
    with pressure.Cgroup(320) as host:
        built = 0
        for _ in range(3):
            domains = [session.start(f"vm{number}", ["ready", "block", "pc.ram", "memory-backend-ram",
                                                     128, "private", "touch", 0, 1000, "ready",
                                                     "hang"],
                                     128, before=host.enter) for number in range(6)]
            for domain in domains:
                domain.wait_line("ready")
            for domain in domains:
                domain.go_on()
            running = [domain for domain in domains if is_built(domain)]
            check(host.killed() == 0, f"{host.killed()} were killed")
            built += len(running)
            for domain in domains:
                if domain in running:
                    domain.connect().call("destroy")
                    domain.must_end_destroyed()
                else:
                    check(refused(domain), f"{domain.name} ended otherwise: {domain.finish()}")
            session.domains.clear()
        print(f"  {built} of 18 fitted")


def test_tight_cgroup(session):
    """a domain in a cgroup that has hardly more than the domain: it is not killed for what Ballast
    does, and superpages are made whole again only if there is room for it"""
    broken = [word for at in range(0, 16 * 512, 512)
              for word in ("madvise", at, 40, DONTNEED, "touch", at, 512)]
    with pressure.Cgroup(RAM_MIB + 2 * HEADROOM_MIB) as host:
        domain = session.start("vm", [*RAM, "touch", 0, RAM_PAGES, "ready", *broken, "ready", *broken,
                                      "ready", "madvise", 0, RAM_PAGES, DONTNEED, "churn", 2, 1, 8,
                                      "ready", "hang"], RAM_MIB,
                               before=host.enter)
        domain.wait_line("ready")
        domain.go_on()
        domain.wait_line("ready")
        until(lambda: domain.query()["recovered_2m"] != 0, "with room it should make some whole")
        until(lambda: host.limit(host.used() / MIB + 1) is None, "a limit that is just met")
        before = domain.query()["recovered_2m"]
        domain.go_on()
        domain.wait_line("ready")
        time.sleep(1)
        after = domain.query()["recovered_2m"]
        check(after - before <= 1, f"{after - before} were made whole without room")  # one was begun
        domain.go_on()
        domain.wait_line("ready")
        time.sleep(1)
        check(host.killed() == 0 and domain.process.poll() is None, "it was killed")
        domain.connect().call("destroy")
        domain.must_end_destroyed()


def push_out(session, host, before_block, limit_mib):
    """A domain of 64 MiB that has put something into 16 of them, on a host that then has no more than
    limit_mib for it. Returns it, what it says of itself, the pages that it has then, and how many MiB
    are in memory."""
    domain = session.start("vm", [*before_block, *RAM, "touch", 0, 4096, "ready", "check", 0, 4096,
                                  "touch", 0, RAM_PAGES, "check", 0, RAM_PAGES, "ready", "hang"],
                           RAM_MIB, before=host.enter)
    domain.wait_line("ready")
    described = domain.query()
    had = pressure.anonymous_pages(domain, described)
    check(had == RAM_PAGES, f"it should have its target: {had}")
    in_memory = host.squeeze(limit_mib) / MIB
    return domain, described, pressure.anonymous_pages(domain, described), in_memory


def must_go_on(domain, described, host):
    """Its guest finds what it had written, and may use all of its target."""
    domain.go_on()
    domain.wait_line("ready")
    has = pressure.anonymous_pages(domain, described)
    check(has == RAM_PAGES, f"written to, all of its target should be there again: {has}")
    check(host.killed() == 0, "it was killed")
    domain.connect().call("destroy")
    domain.must_end_destroyed()


def push_out_both(session, what):
    """With memory that is locked the total stays; with memory that is not, pages of zeros may go, and
    come back when they are written to."""
    with pressure.Cgroup(4 * RAM_MIB) as host:
        domain, described, has, in_memory = push_out(session, host, ["mlockall"], RAM_MIB / 2)
        check(has == RAM_PAGES and in_memory >= RAM_MIB, f"locked, it has {has} pages")
        must_go_on(domain, described, host)
        domain, described, has, in_memory = push_out(session, host, [], RAM_MIB / 2)
        print(f"  {what}: of {RAM_PAGES} pages {has} are left, 4096 of them in use; "
              f"{in_memory:.0f} MiB are in memory")
        check(in_memory <= RAM_MIB, "nothing was pushed out")
        check(4096 <= has <= RAM_PAGES, "what is in use stays, and there is no more than the target")
        must_go_on(domain, described, host)


def test_swap(session):
    """a host that swaps: nothing is lost, the total is never more than the target, and what zeros it
    lost comes back; with locked memory the total stays"""
    with pressure.swap(256):
        push_out_both(session, "swapped out")


def test_search_for_zeros(session):
    """a kernel that searches huge pages for zeros when memory runs short (max_ptes_none below 511):
    the same"""
    with pressure.setting(THP + "khugepaged/max_ptes_none", 0), \
            pressure.setting(THP + "shrink_underused", 1):
        push_out_both(session, "searched")
        if pressure.has_swap():
            return
        with pressure.setting(THP + "shrink_underused", 0), pressure.Cgroup(4 * RAM_MIB) as host:
            domain, described, has, _ = push_out(session, host, [], RAM_MIB / 2)
            check(has == RAM_PAGES, f"what doctor advises should help, but it has {has}")
            must_go_on(domain, described, host)


fake.run_tests(test_until_the_host_has_no_more, test_builds_at_once, test_tight_cgroup, test_swap,
               test_search_for_zeros)
