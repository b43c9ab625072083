# SPDX-License-Identifier: MIT
"""What the tests in Python that start processes have in common: those with real guests
(tests/guest/lib.py) and those with fake_qemu (tests/host/fake.py)."""

import json
import os
import socket
import sys
import time
import traceback

SKIP = 77

# All limits are multiplied by this, for machines that are slow as a whole: nested ones, say.
TIME_FACTOR = float(os.environ.get("BALLAST_TIME_FACTOR", "1"))


class Skip(Exception):
    """The machine lacks what the test needs; says what."""


class Failed(Exception):
    """The test failed; says how."""


def check(truth, text):
    """A test's assertion."""
    if not truth:
        raise Failed(text)


def seconds(limit_s):
    """A time limit on this machine."""
    return limit_s * TIME_FACTOR


def until(condition, limit_s, what, poll_s=0.02):
    """Waits until condition() is true, and returns what it returned."""
    deadline = time.monotonic() + seconds(limit_s)
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Failed(f"waited {seconds(limit_s):.0f} s in vain: {what}")
        time.sleep(poll_s)


class Qmp:
    """A connection to QEMU's monitor."""

    def __init__(self, path, listen_limit_s=10):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(seconds(60))

        def connected():
            # The socket is there a moment before QEMU listens.
            try:
                self.socket.connect(str(path))
            except (FileNotFoundError, ConnectionRefusedError):
                return False
            return True
        until(connected, listen_limit_s, "QEMU's monitor should listen")
        self.file = self.socket.makefile("rw")
        self.file.readline()
        self.call("qmp_capabilities")

    def call(self, command, **arguments):
        """Executes a command and returns its result; events are passed over."""
        self.file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.file.flush()
        while True:
            line = self.file.readline()
            if not line:
                raise Failed(f"QEMU closed its monitor instead of answering {command}")
            reply = json.loads(line)
            if "error" in reply:
                raise Failed(f"QEMU refused {command}: {reply['error']['desc']}")
            if "return" in reply:
                return reply["return"]

    def close(self):
        self.file.close()
        self.socket.close()


def run_tests(tests, title, require, session):
    """Runs the functions, each with a session of its own, and ends the program: 0, 1, or 77 if all
    were skipped. title(test) is what is printed of each; require() raises Skip. With $BALLAST_ONLY,
    only those whose title has that word."""
    failed = skipped = 0
    sys.stdout.reconfigure(line_buffering=True)
    tests = [test for test in tests if os.environ.get("BALLAST_ONLY", "") in title(test)]
    if not tests:
        sys.exit(f"no test has '{os.environ['BALLAST_ONLY']}' in its title")
    for test in tests:
        print(f"{title(test)}:")
        started = time.monotonic()
        try:
            require()
            with session() as owner:
                test(owner)
            print(f"  passed ({time.monotonic() - started:.1f} s)")
        except Skip as why:
            skipped += 1
            print(f"  skipped: {why}")
        except Failed as why:
            failed += 1
            print(f"  FAILED: {why}")
        except Exception:  # pylint: disable=broad-except
            failed += 1
            print("  FAILED:")
            traceback.print_exc(file=sys.stdout)
    if failed:
        sys.exit(1)
    sys.exit(SKIP if skipped == len(tests) else 0)
