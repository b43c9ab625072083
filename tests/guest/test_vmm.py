#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""examples/vmm: Linux boots on the raw KVM API with libballast, in less memory than it believes to
have. It needs KVM, and nothing of QEMU."""

import pathlib
import re
import time

import lib

MIB = 1 << 20
# What the program itself uses, and what the kernel's approximate count may be off by.
SLACK = 24 * MIB
# There is no keyboard, and Linux looks for it for seconds.
QUICK = "initcall_blacklist=i8042_init"
RESULT = re.compile(r"^vmm: max (\d+) MiB, target (\d+) MiB, total (\d+) MiB", re.M)


def anonymous(pid):
    """The resident anonymous memory of a process; None if it has ended."""
    try:
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    found = re.search(r"^RssAnon:\s*(\d+) kB", status, re.M)
    return int(found.group(1)) * 1024 if found else None


def run(session, size, target, command_line, *grow):
    """Runs a guest to its end. Returns the exit status, what it printed, and what was resident
    meanwhile: the samples from outside that were taken once the domain was built."""
    kit = lib.guest_kit()
    console = session.folder / "console"
    with open(console, "wb") as stdout:
        process = session.start([lib.build_dir() / "examples/vmm", kit["kernel"], size, target,
                                 kit["initramfs"], f"console=ttyS0 {QUICK} {command_line}", *grow],
                                stdout=stdout, stderr=stdout)
    samples = []
    deadline = time.monotonic() + lib.seconds(lib.BOOT_LIMIT_S)
    while process.poll() is None:
        lib.check(time.monotonic() < deadline,
                  f"it should have ended by now:\n{console.read_text(errors='replace')}")
        begun = console.stat().st_size != 0
        now = anonymous(process.pid)
        # What the guest says comes after the domain was built, the result before it ends.
        if begun and now is not None and not RESULT.search(console.read_text(errors="replace")):
            samples.append(now)
        time.sleep(0.05)
    return process.returncode, console.read_text(errors="replace"), samples


def result(output):
    """Max, target and total, in MiB, as the VMM tells them at the end."""
    found = RESULT.search(output)
    lib.check(found, f"there is no result:\n{output}")
    return tuple(int(number) for number in found.groups())


def test_boots(session):
    """a guest that scrubs all its memory boots in a quarter of it, and the kernel counts its target"""
    status, output, samples = run(session, "512M", "128M", "memtest=1")
    lib.check(status == 0 and "ballast-guest: done" in output, f"status {status}:\n{output}")
    lib.check(result(output) == (512, 128, 128), output)
    total = int(re.search(r"MemTotal (\d+) kB", output).group(1)) * 1024
    lib.check(total > 400 * MIB, f"the guest sees {total} bytes")
    lib.check(samples, "no sample was taken")
    print(f"  {len(samples)} samples of RssAnon: {min(samples) // MIB} to {max(samples) // MIB} MiB")
    print("  " + RESULT.search(output).string.strip().splitlines()[-1])
    lib.check(128 * MIB - SLACK <= min(samples) and max(samples) <= 128 * MIB + SLACK,
              "it had more or less than its target")


def test_grows(session):
    """a guest that needs more than its target gets it, or ends"""
    fill = "ballast.scenario=fill ballast.size=160"
    status, output, _ = run(session, "512M", "128M", fill, "320M")
    lib.check(status == 0 and "ballast-guest: filled 160 MiB" in output,
              f"status {status}:\n{output}")
    lib.check("it has GROW now" in output and result(output) == (512, 320, 320), output)
    status, output, _ = run(session, "512M", "128M", fill)
    lib.check(status == 3 and "the guest needs more than its target" in output,
              f"status {status}:\n{output}")
    lib.check(result(output) == (512, 128, 128), output)


lib.run_tests(test_boots, test_grows)
