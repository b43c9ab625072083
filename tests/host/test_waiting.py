#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A thread that waits for a page that cannot be had asks for it again whenever a signal reaches it:
in KVM with each kick of QEMU's, elsewhere in the kernel tens of thousands of times a second. That
must not set off a search through all of memory each time."""

import os
import pathlib
import signal
import time

import fake

TARGET_MIB = 16
ROUNDS = 300
# src/guest/faults.c tries again so often by itself.
RETRY_S = 1


def test_asks_again(session):
    """a thread that asks for its page again and again is answered once"""
    domain = session.start("vm", ["block", "pc.ram", "memory-backend-ram", 64, "private", "touch", 0,
                                  2 * TARGET_MIB * fake.MIB // fake.PAGE, "hang"], TARGET_MIB,
                           on_exhaustion="pause", max_bytes=64 * fake.MIB)
    fake.until(lambda: domain.query()["state"] == "exhausted", "it should run dry")
    process = pathlib.Path(f"/proc/{domain.process.pid}/task/{domain.process.pid}")

    def asks():
        return (process / "wchan").read_text() == "handle_userfault"

    def stopped():
        return (process / "stat").read_text().rpartition(")")[2].split()[0] == "T"
    fake.until(asks, "the main thread should wait for a page")
    started, before = time.monotonic(), domain.query()["sweeps"]
    for _ in range(ROUNDS):
        os.kill(domain.process.pid, signal.SIGSTOP)
        fake.until(stopped, "it should stop", 0.001)
        os.kill(domain.process.pid, signal.SIGCONT)
        fake.until(asks, "it should ask for its page again", 0.001)
    sweeps = domain.query()["sweeps"] - before
    retries = (time.monotonic() - started) / RETRY_S + 1
    print(f"  {sweeps} sweeps in {retries - 1:.1f} s")
    fake.check(sweeps <= retries + 1, f"{sweeps} sweeps, for {ROUNDS} times that it asked")
    fake.check(domain.query()["state"] == "exhausted", "it should wait on")


fake.run_tests(test_asks_again)
