#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""While a domain is built, which may take long, a line on the terminal says how far it is; who does
not watch from a terminal, or has put it into the background, is told nothing."""

import fcntl
import os
import re
import termios

import fake

# The host takes so long for each 64 MiB, and the target is four times that.
SLUGGISH_MS = 900
TARGET_MIB = 256
WORDS = ["sluggish", SLUGGISH_MS, "block", "pc.ram", "memory-backend-ram", 2 * TARGET_MIB, "private",
         "exit", 7]


def read_all(fd):
    """What is written to a terminal until nobody has it open any more."""
    text = b""
    while True:
        try:
            piece = os.read(fd, 4096)
        except OSError:  # EIO: closed
            piece = b""
        if not piece:
            return text.decode()
        text += piece


def start(session, name, before):
    """Starts a domain that takes long to build, with a terminal. Returns it and our end of that."""
    ours, theirs = os.openpty()
    domain = session.start(name, WORDS, TARGET_MIB, stderr=theirs, before=before)
    os.close(theirs)
    return domain, ours


def own_terminal():
    """Makes the terminal that is our standard error our controlling one."""
    os.setsid()
    fcntl.ioctl(2, termios.TIOCSCTTY, 0)


def finish(domain, terminal):
    """Waits for its end. Returns what its terminal showed."""
    shown = read_all(terminal)
    status, _ = domain.finish()
    fake.check(status == 7, f"{domain.name} ended with {status}, and showed {shown!r}")
    return shown


def test_building(session):
    """a long build shows on the terminal that watches it, and nowhere else"""
    watched = start(session, "watched", own_terminal)
    elsewhere = start(session, "elsewhere", os.setsid)
    piped = session.start("piped", WORDS, TARGET_MIB)

    shown = finish(*watched)
    steps = re.findall(rf"\rwatched: the host has given (\d+) MiB of {TARGET_MIB} MiB\x1b\[K", shown)
    fake.check(steps and steps == sorted(steps, key=int), f"it showed {shown!r}")
    fake.check(shown.endswith("\r\x1b[K"), f"it left its line: {shown!r}")
    shown = finish(*elsewhere)
    fake.check(shown == "", f"a terminal that is not its own was shown {shown!r}")
    status, errors = piped.finish()
    fake.check(status == 7 and errors == "", f"it ended with {status} and said {errors!r}")


fake.run_tests(test_building)
