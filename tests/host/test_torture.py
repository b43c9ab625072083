#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Nothing that is written to a guest's RAM is lost, in whatever way it is written, while the agent
sweeps, a balloon goes up and down and targets are set as fast as they can be (tests/host/torture.h);
and the kernel's accounting agrees all the time.

The build folder is $BALLAST_BUILD_DIR, which meson sets. For a long run:

    BALLAST_BUILD_DIR=build tests/host/test_torture.py --words 1e10 --seed 7
"""

import argparse
import json
import os
import random
import subprocess
import tempfile
import time

import fake

MAX_MIB = 256
# What is not zero, or cannot be moved, at most; each target is well above it.
MOST_MIB = 24
# By act: there are never enough pages, and the agent sweeps all the time; or often enough of them
# for the domain to be covered, and to shrink when it is asked to.
TARGETS_MIB = {"tight": (40, 42, 45, 48), "wide": (48, 80, 96, 112, 128, 160)}
PHASE_S = 2
PAGES = fake.MIB // fake.PAGE

options = argparse.ArgumentParser()
options.add_argument("--seconds", type=float,
                     default=float(os.environ.get("BALLAST_TORTURE_SECONDS", "35")),
                     help="how long at least ($BALLAST_TORTURE_SECONDS)")
options.add_argument("--words", type=float,
                     default=float(os.environ.get("BALLAST_TORTURE_WORDS", "0")),
                     help="written words of 8 bytes that must be found ($BALLAST_TORTURE_WORDS)")
options.add_argument("--seed", type=int, default=int(os.environ.get(
    "BALLAST_TORTURE_SEED", random.SystemRandom().getrandbits(32))))
arguments = options.parse_args()


def file_folder():
    """Where a file can be read with O_DIRECT, if there is such a place: /tmp is often in memory."""
    return min(("/var/tmp", tempfile.gettempdir(), fake.BUILD),
               key=lambda folder: subprocess.run(
                   ["stat", "-f", "-c", "%T", folder], text=True, capture_output=True,
                   check=True).stdout.strip() == "tmpfs")


def hold_still(client):
    """Until the total is the target, and stays so."""
    while True:
        total = client.call("query-domain")["return"]["total_pages"]
        client.call("set-target", {"target_bytes": total * fake.PAGE})
        now = client.call("query-domain")["return"]
        if now["total_pages"] == now["target_pages"] and not now["shrinking"]:
            return


def change_targets(client, targets_mib, rng, deadline):
    """As fast as they are granted. Returns how many."""
    changes = 0
    while time.monotonic() < deadline:
        reply = client.call("set-target", {"target_bytes": rng.choice(targets_mib) * fake.MIB})
        fake.check("return" in reply, f"set-target: {reply}")
        changes += 1
    return changes


def ask(domain, line):
    """Sends the torture a line. Returns its counts."""
    domain.process.stdin.write(line.encode() + b"\n")
    domain.process.stdin.flush()
    answer = domain.process.stdout.readline()
    if not answer:
        status, errors = domain.finish()
        raise fake.Failed(f"it ended with {status}: {errors}")
    return json.loads(answer)


def show(counts, stat, changes):
    """What was done, for whoever reads the log."""
    print(f"  seed {counts['seed']}; words of 8 bytes that were written, and found later:")
    for name, words in counts["words"].items():
        print(f"    {words:>16,}  {name}")
    print(f"    {counts['sum']:>16,}  in all")
    for name, why in counts["lacks"].items():
        print(f"  skipped: torture by '{name}': {why}")
    keys = ("faults", "populated_2m", "populated_4k", "reclaimed_2m", "reclaimed_4k",
            "recovered_2m", "sweeps", "busy_skips", "given_up_pages", "taken_back_pages", "out_in_use", "discarded_pages")
    print(f"  {changes} targets set; " + ", ".join(f"{key} {stat[key]}" for key in keys))
    print("  observer: " + ", ".join(f"{key} {value}" for key, value in fake.Observer.totals.items()))


def run(session, domain, targets_mib, seconds, words):
    """The phases of an act, until it has done its work: targets fly, or none does. Returns the last
    counts of the torture and of the domain."""
    rng = random.Random(arguments.seed)
    client = domain.connect()
    fake.until(lambda: domain.query()["state"] == "running", "it should be built")
    between = ["--between", f"{min(targets_mib) * PAGES}+{max(targets_mib) * PAGES}"]
    changes, started, counts = 0, time.monotonic(), {"sum": 0}
    while time.monotonic() < started + seconds or counts["sum"] < words:
        observer = fake.Observer(session, domain.name, between)
        changes += change_targets(client, targets_mib, rng, time.monotonic() + PHASE_S)
        observer.stop()
        hold_still(client)
        observer = fake.Observer(session, domain.name)
        time.sleep(PHASE_S)
        observer.stop()
        counts = ask(domain, "count")
    stat = client.call("query-domain")["return"]
    counts = ask(domain, "end")
    client.close()
    show(counts, stat, changes)
    return counts, stat


def act(name, wanted):
    """The test function of an act. Of the domain's counters the wanted ones must have moved."""
    def test(session):
        targets_mib = TARGETS_MIB[name]
        domain = session.start(
            "vm", ["block", "pc.ram", "memory-backend-ram", MAX_MIB, "private", "torture",
                   arguments.seed, MOST_MIB, file_folder()], targets_mib[0],
            max_bytes=MAX_MIB * fake.MIB)
        started = time.monotonic()
        try:
            counts, stat = run(session, domain, targets_mib, arguments.seconds / len(TARGETS_MIB),
                               arguments.words / len(TARGETS_MIB))
        except fake.Gone:
            raise fake.Failed(f"the domain ended: {domain.finish()}") from None
        status, errors = domain.finish()
        fake.check(status == 0, f"it ended with {status}: {errors}")
        print(f"  {time.monotonic() - started:.0f} s")
        for writer, words in counts["words"].items():
            fake.check(words > 0 or writer in counts["lacks"], f"nothing was written by {writer}")
        for key in wanted:
            fake.check(stat[key] > 0, f"{key} should not be 0: {stat}")

    test.__doc__ = f"no write is lost in a {name} domain"
    return test


print(f"seed {arguments.seed}", flush=True)
fake.run_tests(act("tight", ("sweeps", "reclaimed_4k", "given_up_pages", "discarded_pages")),
               act("wide", ("populated_2m", "reclaimed_2m", "given_up_pages", "discarded_pages")))
