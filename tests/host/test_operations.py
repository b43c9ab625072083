#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The table in docs/operations.md of what an operator is answered, cell by cell: over the control
protocol, and by the ballast command. A row or column that has no case here, or the other way round,
is a failure. Two columns need a real QEMU; without one they are left out, and it says so.

Usage: test_operations.py OPERATIONS.MD
"""

import json
import pathlib
import re
import shutil
import socket
import sys

import fake
from fake import MIB, PAGE, check

RAM_MIB = 64
TARGET_MIB = 16
QEMU = "qemu-system-x86_64"


def host_mib():
    """All memory that the host has."""
    return int(re.search(r"MemTotal:\s*(\d+)",
                         pathlib.Path("/proc/meminfo").read_text()).group(1)) >> 10


# A growth that takes several seconds on a sluggish host.
GROW_MIB = 2048
# More than the host has.
HUGE_MIB = (4 * host_mib() + 1023) // 1024 * 1024


def read_table(path):
    """The table whose first heading is "command": {row: {column: cell}}."""
    table, headings = {}, None
    for line in pathlib.Path(path).read_text().splitlines():
        cells = [cell.strip().replace("`", "") for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            headings = None
        elif cells[0] == "command":
            check(not table, "there are two such tables")
            headings = cells[1:]
        elif headings is not None and not line.startswith("|---"):
            check(len(cells) == len(headings) + 1, f"a row of another length: {line}")
            check(cells[0] not in table, f"two rows '{cells[0]}'")
            table[cells[0]] = dict(zip(headings, cells[1:]))
    check(table, f"{path} has no such table")
    return table


# States. Each function starts a domain and brings it there.

def start_fake(session, words_after, ram_mib, before=()):
    """A process that looks like QEMU."""
    words = [*before, "block", "pc.ram", "memory-backend-ram", ram_mib, "private", *words_after,
             "hang"]
    return session.start("vm", words, TARGET_MIB, on_exhaustion="pause", max_bytes=ram_mib * MIB)


def building(session, ram_mib):
    domain = start_fake(session, ["ready"], ram_mib, ["slow"])
    domain.wait_line("slow")
    return domain


def running(session, ram_mib):
    domain = start_fake(session, ["touch", 0, 1000, "ready"], ram_mib)
    domain.wait_line("ready")
    return domain


def exhausted(session, ram_mib):
    domain = start_fake(session, ["touch", 0, 2 * TARGET_MIB * MIB // PAGE], ram_mib)
    fake.until(lambda: domain.query()["state"] == "exhausted", "it should run dry")
    return domain


def dying(session, ram_mib):
    """As QEMU does at its end."""
    domain = start_fake(session, ["munmap", "ready"], ram_mib)
    domain.wait_line("ready")
    return domain


def start_qemu(session, ram_mib, *words):
    """A QEMU that does not run its guest, and its monitor."""
    path = session.folder / "qmp"
    path.unlink(missing_ok=True)
    domain = session.start_qemu("vm", TARGET_MIB, [
        QEMU, "-accel", "tcg", "-m", f"{ram_mib}M", "-S", "-nodefaults", "-no-user-config",
        "-display", "none", "-qmp", f"unix:{path},server=on,wait=off", *words])
    return domain, fake.Qmp(path, fake.PATIENCE_S)


def migrating_out(session, ram_mib):
    """It migrates for as long as it takes: nobody reads what it sends, and that is more than fits."""
    domain, monitor = start_qemu(session, ram_mib)
    path = session.folder / "incoming"
    path.unlink(missing_ok=True)
    domain.reader = socket.socket(socket.AF_UNIX)
    domain.reader.bind(str(path))
    domain.reader.listen()
    monitor.call("migrate", uri=f"unix:{path}")
    fake.until(lambda: monitor.call("query-migrate").get("status") == "active",
               "the migration should begin")
    domain.still = lambda: monitor.call("query-migrate")["status"] == "active"
    return domain


def incoming(session, ram_mib):
    """What it waits for never comes."""
    domain, monitor = start_qemu(session, ram_mib, "-incoming", "defer")
    domain.still = lambda: monitor.call("query-status")["status"] == "inmigrate"
    return domain


STATES = {"building": building, "running": running, "exhausted": exhausted,
          "migrating out": migrating_out, "incoming": incoming, "dying": dying}
NEED_QEMU = ("migrating out", "incoming")


def target(mib):
    """set-target to so much, and the same for the ballast command."""
    return "set-target", {"target_bytes": int(mib * MIB)}, ["set", "vm", f"{int(mib * 1024)}K"]


# Commands: what is sent, and what is said to the ballast command for the same.
COMMANDS = {
    "query-domain": ("query-domain", None, ["stat", "--json", "vm"]),
    "query-map": ("query-map", None, ["map", "--json", "vm"]),
    "query-map, beyond the end": ("query-map", {"from": HUGE_MIB}, None),
    "set-target, up": target(3 * TARGET_MIB),
    "set-target, down": target(TARGET_MIB / 2),
    "set-target, the same": target(TARGET_MIB),
    "set-target, too small": target(1),
    "set-target, too large": target(RAM_MIB + 2),
    "set-target, the host lacks the memory": target(HUGE_MIB / 2),
    "set-target, no whole pages": ("set-target", {"target_bytes": 16 * MIB + 1}, None),
    "set-target, without a target": ("set-target", {}, None),
    "subscribe": ("subscribe", None, None),
    "unsubscribe": ("unsubscribe", None, None),
    "query-commands": ("query-commands", None, None),
    "an unknown command": ("make-coffee", None, None),
    "destroy": ("destroy", None, ["destroy", "vm"]),
}
NEED_HUGE = "set-target, the host lacks the memory"


def answer(reply):
    """A reply as the table has it, an error with all of its desc."""
    if "error" in reply:
        return f"{reply['error']['class']}: {reply['error']['desc']}"
    result = reply["return"]
    return ("state " + result["state"] if "state" in result else
            "commands" if "commands" in result else
            "map" if "map" in result else json.dumps(result))


def what_may_not_change(domain):
    """What an error must leave as it is."""
    state = domain.query()
    return {key: state[key] for key in ("state", "target_pages", "total_pages", "shrinking")}


def check_afterwards(domain, state, after, error, before):
    """What the table says comes then, or, without that, what was."""
    if after == "gone":
        domain.must_end_destroyed()
        return
    fake.until(lambda: domain.query()["state"] == after, f"it should come to be {after}")
    if error:
        check(what_may_not_change(domain) == before, f"something changed: {before}, "
              f"{what_may_not_change(domain)}")
    check(domain.still(), f"it is {state} no more")
    if state == "building":
        domain.go_on()
        domain.wait_line("ready")
        found = what_may_not_change(domain)
        check(found == {"state": "running", "target_pages": TARGET_MIB * MIB // PAGE,
                        "total_pages": TARGET_MIB * MIB // PAGE, "shrinking": False},
              f"what was built is not what it should be: {found}")


def try_cell(session, row, state, cell, by_command):
    """Brings a domain into a state, has it asked, and looks what becomes of it."""
    command, arguments, words = COMMANDS[row]
    expected, _, after = cell.partition(" → ")
    error = ": " in expected
    after = after or ("running" if state in NEED_QEMU else state)
    domain = STATES[state](session, HUGE_MIB if row == NEED_HUGE else RAM_MIB)
    before = what_may_not_change(domain)
    if by_command:
        done = session.ballast(*words)
        check((done.returncode == 0) != error, f"ballast {' '.join(words)} ended with {done}")
        lines = done.stderr.splitlines()
        check(not error or (len(lines) == 1 and lines[0].startswith("ballast: ")),
              f"ballast {' '.join(words)} said {done.stderr}")
    else:
        client = domain.connect()
        found = answer(client.call(command, arguments))
        check(found.startswith(expected) if error else found == expected,
              f"it answered '{found}'")
        client.close()
    check_afterwards(domain, state, after, error, before)
    session.end_domains()
    session.ballast("ls")  # removes what a killed one left


def try_growing(session, column):
    """The column of a domain for which set-target is bringing memory: all of it while one does, for
    each of its steps lets one request in. False if it was over too soon."""
    words = ["touch", 0, 1000, "sluggish", 200, "ready"]
    domain = start_fake(session, words, 2 * GROW_MIB)
    domain.wait_line("ready")
    grower, client = domain.connect(), domain.connect()
    grower.send("set-target", {"target_bytes": GROW_MIB * MIB})
    fake.until(lambda: client.call("query-domain")["return"]["growing_pages"], "it should grow")
    found = {row: answer(client.call(*COMMANDS[row][:2])) for row in COMMANDS if row != "destroy"}
    state = client.call("query-domain")["return"]
    if state["growing_pages"] == 0:
        session.end_domains()
        session.ballast("ls")
        return False
    check(state["target_pages"] == state["total_pages"] == TARGET_MIB * MIB // PAGE,
          f"something changed: {state}")
    found["destroy"] = answer(client.call("destroy")) + " → gone"
    for row, text in found.items():
        cell = column[row]
        check(text.startswith(cell) if ": " in cell else text == cell,
              f"'{row}' while growing, '{cell}': it answered '{text}'")
    domain.must_end_destroyed()
    session.end_domains()
    return True


def test_table(session):
    """every cell of the table holds"""
    table = read_table(sys.argv[1])
    check(list(table) == list(COMMANDS), f"the rows are {list(table)} instead of {list(COMMANDS)}")
    columns = list(table["destroy"])
    check(sorted(columns) == sorted([*STATES, "growing"]), f"the columns are {columns}")
    left_out = () if shutil.which(QEMU) else NEED_QEMU
    if left_out:
        print(f"  left out, for there is no {QEMU}: {', '.join(left_out)}")
    cells = [(row, state, by_command) for state in STATES if state not in left_out
             for row in COMMANDS for by_command in (False, True)
             if COMMANDS[row][2] or not by_command]
    for row, state, by_command in cells:
        try:
            try_cell(session, row, state, table[row][state], by_command)
        except (fake.Failed, fake.Gone) as why:
            raise fake.Failed(f"'{row}' while {state}{' by command' * by_command}, "
                              f"'{table[row][state]}': {why!r}") from None
    try:
        fake.require_memory(GROW_MIB)
        column = {row: table[row]["growing"] for row in table}
        check(any(try_growing(session, column) for _ in range(10)), "it always grew too soon")
    except fake.Skip as why:
        print(f"  left out: growing: {why}")
    print(f"  {len(cells)} cells besides, by protocol or by command")


if len(sys.argv) != 2:
    sys.exit(f"usage: {sys.argv[0]} OPERATIONS.MD")
fake.run_tests(test_table)
