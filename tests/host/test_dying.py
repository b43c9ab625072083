#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Dying, raced on purpose: domains whose guest uses its memory in every way, and whose target goes
up and down, are destroyed, or killed, at any moment.

Usage: test_dying.py [--rounds N] [--seed N]
"""

import argparse
import collections
import contextlib
import os
import pathlib
import random
import shutil
import signal
import threading
import time

import fake
from fake import MIB, PAGE, check

RAM_MIB = 64
THREADS = 3
# What the guest keeps in its memory, and targets in which it has room. Broken up over all
# superpages it needs no more than this, for single pages can be placed.
FILLED_MIB = 8
TARGETS_MIB = (16, 48)

DONTNEED = 4  # MADV_DONTNEED
# A growth that takes several seconds on a sluggish host.
GROW_MIB = 2048

options = argparse.ArgumentParser(description=__doc__)
options.add_argument("--rounds", type=int, default=40)
options.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "little"))


class Targets(threading.Thread):
    """Sets targets up and down until the domain is gone, and knows what it was answered."""

    def __init__(self, domain, seed):
        super().__init__(daemon=True)
        self.domain = domain
        self.random = random.Random(seed)
        self.set = 0
        self.wrong = None

    def run(self):
        try:
            client = self.domain.connect()
            while True:
                target = self.random.randint(*TARGETS_MIB) * MIB
                reply = client.call("set-target", {"target_bytes": target})
                error = reply.get("error", {})
                if error.get("class") not in (None, "Busy", "WrongState"):
                    self.wrong = str(error)
                self.set += "error" not in reply
        except fake.Gone:
            pass
        except fake.Failed as why:
            self.wrong = str(why)


def guest_words(seed, filled_mib=FILLED_MIB):
    """A guest that uses its memory until it is stopped."""
    return ["block", "pc.ram", "memory-backend-ram", RAM_MIB, "private", "machine",
            "churn", THREADS, seed, filled_mib, "ready", "hang"]


def wait_while_dying(domain, described):
    """After a destroy was answered, to a client that does not read: until the process has gone. No
    page comes into the cache, and nothing is granted. Returns how often the cache was empty."""
    looks = 0
    try:
        client = domain.connect()
        while True:
            cached = domain.resident(described, "cache")
            if cached is None:
                return looks
            check(cached == 0, f"a dying domain has {cached} pages in its cache")
            looks += 1
            reply = client.call("query-domain")["return"]
            check(reply["state"] == "dying" and reply["cache_pages"] - reply["given_pages"] == 0,
                  f"after destroy it says: {reply}")
            reply = client.call("set-target", {"target_bytes": TARGETS_MIB[1] * MIB})
            check(reply.get("error", {}).get("class") == "WrongState", f"set-target: {reply}")
            time.sleep(0.01)
    except fake.Gone:
        return looks


def destroy_while_read(domain, client, described):
    """As most do it. The answer comes when the cache is empty."""
    client.send("destroy")
    reply = client.read()
    check(reply == {"return": {}}, f"destroy: {reply}")
    cached = domain.resident(described, "cache") if described["cache_bytes"] else None
    check(not cached, f"after destroy was answered {cached} pages are in the cache")
    client.wait_closed()
    return 0


def destroy_while_deaf(domain, client, described):
    """The client reads no answer, so that the domain waits for it for a second, dying, while others
    can ask."""
    listener, events = domain.connect(), []
    listener.call("subscribe")
    reader = threading.Thread(target=lambda: events.extend(listener.wait_closed()), daemon=True)
    reader.start()
    client.stop_reading()
    client.send("destroy")
    looks = wait_while_dying(domain, described) if described["cache_bytes"] else 0
    reader.join(fake.PATIENCE_S)
    check(not events or events[-1]["event"] == "DYING", f"after dying came: {events[-3:]}")
    return looks


def one_round(session, rng, kind, deaf, counts):
    """Starts a domain and destroys it."""
    filled_mib = RAM_MIB if kind == "dry" else FILLED_MIB
    domain = session.start("vm", guest_words(rng.getrandbits(32), filled_mib), TARGETS_MIB[0],
                           on_exhaustion="pause")
    if kind != "building":
        domain.wait_line("ready")
    targets = Targets(domain, rng.getrandbits(32))
    if kind != "dry":
        targets.start()
    try:
        client = domain.connect()
        time.sleep(rng.random() * (0.02 if kind == "building" else 0.1))
        if kind == "dry" and rng.random() < 0.5:
            fake.until(lambda: client.call("query-domain")["return"]["state"] == "exhausted",
                       "it should run dry")
        described = client.call("query-domain")["return"]
        looks = (destroy_while_deaf if deaf else destroy_while_read)(domain, client, described)
        client.close()
    except fake.Gone:
        raise fake.Failed(f"it ended before it answered: {domain.finish()}") from None
    domain.must_end_destroyed()
    if kind != "dry":
        targets.join(fake.PATIENCE_S)
        check(not targets.is_alive(), "who sets targets should have seen the end")
        check(targets.wrong is None, f"set-target: {targets.wrong}")
    counts[f"destroyed while {described['state']}"] += 1
    counts["destroyed while shrinking"] += described["shrinking"]
    counts["targets set"] += targets.set
    counts["looks at a dying domain"] += looks
    counts["sweeps"] += described["sweeps"]
    counts["reclaimed pages"] += described["reclaimed_2m"] * 512 + described["reclaimed_4k"]
    counts["given up"] += described["given_up_pages"]
    counts["taken back"] += described["taken_back_pages"]


def test_races(session):
    """domains are destroyed while their guests populate, scrub, give up and take back, while they
    sweep, grow and shrink, while they wait for memory, and while they are built"""
    rng = random.Random(arguments.seed)
    print(f"  seed {arguments.seed}, {arguments.rounds} rounds")
    counts = collections.Counter()
    for number in range(arguments.rounds):
        kind = ("busy", "busy", "dry", "building")[number % 4]
        deaf = number % 10 == 4  # each lasts a second
        try:
            one_round(session, rng, kind, deaf, counts)
        except fake.Failed as why:
            raise fake.Failed(f"round {number}, {kind}{', deaf client' if deaf else ''}: "
                              f"{why}") from None
    print("  " + ", ".join(f"{what} {count}" for what, count in counts.items()))


def test_destroyed_while_built(session):
    """a domain that is destroyed at a certain point of its build ends as any other does"""
    domain = session.start("vm", ["slow", *guest_words(1)], TARGETS_MIB[0])
    domain.wait_line("slow")
    deaf = domain.connect()
    deaf.stop_reading()
    other = domain.connect()
    deaf.send("destroy")
    try:
        # Handled in turn: the other's request is not seen before the deaf one's.
        state = other.call("query-domain")["return"]["state"]
        while state == "building":
            state = other.call("query-domain")["return"]["state"]
        check(state == "dying", f"it is dying, not {state}")
        domain.go_on()  # the build finds that out
    except (fake.Gone, BrokenPipeError):
        # It waits a second for its client, which is not long on a busy machine.
        print("  it had ended before it could be asked")
    domain.must_end_destroyed()


def resident_kib(domain):
    """By the kernel's books."""
    status = pathlib.Path(f"/proc/{domain.process.pid}/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0])


def test_destroyed_while_growing(session):
    """a domain that is destroyed while a larger target is brought gives that back too"""
    fake.require_memory(GROW_MIB)
    for deaf in (False, True):
        domain = session.start("vm", ["block", "pc.ram", "memory-backend-ram", 2 * GROW_MIB,
                                      "private", "sluggish", 200, "ready", "hang"], TARGETS_MIB[0])
        domain.wait_line("ready")
        grower, client, other = domain.connect(), domain.connect(), domain.connect()
        if deaf:
            client.stop_reading()
        small = resident_kib(domain)
        grower.send("set-target", {"target_bytes": GROW_MIB * MIB})

        def grows():
            state = other.call("query-domain")["return"]
            check(state["target_pages"] == TARGETS_MIB[0] * MIB // PAGE,
                  "a growth was over too soon")
            return state["growing_ready_pages"] > 0
        fake.until(grows, "it should grow", 0.001)
        client.send("destroy")
        if deaf:
            reply = grower.read()
            check(reply.get("error", {}).get("class") == "WrongState", f"set-target: {reply}")
            check(resident_kib(domain) <= small, f"it had {small} KiB, and has "
                  f"{resident_kib(domain)}")
            check(other.call("query-domain")["return"]["state"] == "dying", "it is dying")
        domain.must_end_destroyed()


def drop_while_dying(session):
    """Has a dying process drop 513 of its 1024 pages. How many it has then, or None if it ended
    before all was done."""
    domain = session.start("vm", ["block", "pc.ram", "memory-backend-ram", RAM_MIB, "private",
                                  "touch", 0, 1024, "ready", "madvise", 0, 512, DONTNEED,
                                  "give", 700, 1, "ready", "hang"], TARGETS_MIB[0])
    domain.wait_line("ready")
    described = domain.query()
    check(domain.resident(described, "ram", 1024) == 1024, "it has touched 1024 pages")
    client = domain.connect()
    client.stop_reading()
    other = domain.connect()
    client.send("destroy")
    try:
        fake.until(lambda: other.call("query-domain")["return"]["state"] == "dying",
                   "it should die", 0.001)
        domain.go_on()
        domain.wait_line("ready")
        left = (domain.resident(described, "ram", 1024), domain.resident(described, "cache"))
    except (fake.Failed, fake.Gone, BrokenPipeError):
        left = (None, None)
    domain.must_end_destroyed()
    return None if None in left else left


def test_dropped_while_dying(session):
    """what is dropped or given up in a dying domain goes to the host"""
    left = None
    for _ in range(10):  # on a busy machine it may be over too soon
        left = left or drop_while_dying(session)
    check(left is not None, "it always ended too soon")
    check(left == (1024 - 513, 0), f"of its 1024 pages and the cache {left} are left")


def test_nobody_reads(session):
    """a domain whose last line nobody reads ends all the same"""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writer, True)
    domain = session.start("vm", guest_words(1), TARGETS_MIB[0], stderr=writer)
    domain.wait_line("ready")
    client = domain.connect()
    check(client.call("destroy") == {"return": {}}, "destroy")
    domain.must_end_destroyed()
    os.close(reader)
    os.close(writer)


def test_ends_by_itself(session):
    """a domain that is destroyed while its process exits by itself ends either way"""
    rng = random.Random(arguments.seed)
    ends = collections.Counter()
    for number in range(max(8, arguments.rounds // 2)):
        domain = session.start("vm", [*guest_words(rng.getrandbits(32))[:-1], "exit", 0],
                               TARGETS_MIB[0])
        domain.wait_line("ready")
        client, targets = domain.connect(), Targets(domain, rng.getrandbits(32))
        if number % 2 == 0:
            targets.start()
        if rng.random() < 0.5:
            domain.go_on()
            time.sleep(rng.random() * 0.001)
            with contextlib.suppress(fake.Gone):
                client.send("destroy")
        else:
            client.send("destroy")
            time.sleep(rng.random() * 0.001)
            with contextlib.suppress(BrokenPipeError):
                domain.go_on()
        status, errors = domain.finish()
        check(status in (0, fake.EXIT_DESTROYED), f"it ended with {status}: {errors}")
        check(not domain.folder.exists(), f"it left {list(domain.folder.glob('*'))}")
        client.close()
        if number % 2 == 0:
            targets.join(fake.PATIENCE_S)
            check(not targets.is_alive() and targets.wrong is None, f"set-target: {targets.wrong}")
        ends[status] += 1
    print("  " + ", ".join(f"status {status}: {count}" for status, count in ends.items()))


def test_killed(session):
    """a process that is killed in the middle leaves nothing that 'ballast ls' or the next of its
    name minds"""
    rng = random.Random(arguments.seed)
    for number in range(max(4, arguments.rounds // 5)):
        domain = session.start("vm", guest_words(rng.getrandbits(32)), TARGETS_MIB[0])
        if number % 2 == 0:
            domain.wait_line("ready")
        Targets(domain, rng.getrandbits(32)).start()
        time.sleep(rng.random() * 0.1)
        domain.process.kill()
        status, errors = domain.finish()
        check(status == -signal.SIGKILL, f"killed, and ended with {status}: {errors}")
        check(domain.folder.exists(), "a killed process removes nothing")
        if number % 4 == 3 and shutil.which("qemu-system-x86_64"):
            after = session.start_qemu("vm", TARGETS_MIB[0], [
                "qemu-system-x86_64", "-accel", "tcg", "-m", f"{RAM_MIB}M", "-S", "-nodefaults",
                "-no-user-config", "-display", "none"])
            check(after.connect().call("destroy") == {"return": {}}, "the next of its name")
            after.must_end_destroyed()
            continue
        if number % 4 == 1:
            continue  # another launcher finds the leftovers
        listed = session.ballast("ls")
        check(listed.returncode == 0 and "vm" not in listed.stdout, f"ls: {listed}")
        check(not domain.folder.exists(), "ls should have removed the leftovers")


def test_commands_race(session):
    """several 'ballast destroy', 'ls' and 'stat' at once: the domain is destroyed once, and nobody
    is told nonsense"""
    rng = random.Random(arguments.seed)
    for _ in range(max(4, arguments.rounds // 5)):
        domain = session.start("vm", guest_words(rng.getrandbits(32)), TARGETS_MIB[0])
        domain.wait_line("ready")
        running = [session.start_ballast(*words) for words in
                   (("stat", "vm"), ("destroy", "vm"), ("ls",), ("destroy", "vm"), ("stat", "vm"))]
        ends = [(process.args[1:], *process.communicate(timeout=fake.PATIENCE_S),
                 process.returncode) for process in running]
        domain.must_end_destroyed()
        for words, _, errors, status in ends:
            one_line = errors.startswith("ballast: ") and errors.count("\n") == 1
            good = status == 0 or (status == 1 and words[0] != "ls" and one_line)
            check(good, f"ballast {' '.join(words)} ended with {status}: {errors}")
        check(any(words[0] == "destroy" and status == 0 for words, _, _, status in ends),
              f"nobody destroyed it: {ends}")
        check(not any("killed" in said for _, said, _, _ in ends), f"it had to be killed: {ends}")


def measure(session, gib, populated, huge):
    """Destroys a domain that has so many GiB, and says how long that takes."""
    words = [*([] if huge else ["nohuge"]), "block", "pc.ram", "memory-backend-ram",
             2 * gib * 1024, "private", "touch", 0, gib * 1024 * 256 if populated else 0, "ready",
             "hang"]
    domain = session.start("vm", words, gib * 1024)
    domain.wait_line("ready")
    resident = resident_kib(domain)
    check(resident >= gib << 20, f"it should have {gib} GiB: {resident} KiB")
    client = domain.connect()
    started = time.monotonic()
    check(client.call("destroy") == {"return": {}}, "destroy")
    answered = time.monotonic()
    # The kernel reports the end of a process when it has freed its memory.
    domain.process.wait(fake.PATIENCE_S)
    ended = time.monotonic()
    client.close()
    domain.must_end_destroyed()
    print(f"  {'2 MiB' if huge else '4 KiB'} pages, {'populated' if populated else 'cached'}: "
          f"answered after {answered - started:.3f} s, gone after {ended - started:.3f} s: "
          f"{(ended - started) / gib:.3f} s a GiB")


def test_memory_comes_back(session):
    """2 GiB come back to the host: how long that takes"""
    gib = 2
    fake.require_memory(gib * 1024)
    for huge in (True, False):
        for populated in (False, True):
            measure(session, gib, populated, huge)


arguments = options.parse_args()
fake.run_tests(test_races, test_destroyed_while_built,
               test_destroyed_while_growing, test_dropped_while_dying, test_nobody_reads,
               test_ends_by_itself, test_commands_race, test_killed, test_memory_comes_back)
