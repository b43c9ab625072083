#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Hostile neighbours: guests, clients and processes that misbehave, full disks, no descriptors, a clock
that jumps. docs/hostile.md says what must come of each."""

import contextlib
import ctypes
import os
import pathlib
import random
import resource
import signal
import socket
import subprocess
import threading
import time

import fake
from fake import BUILD, MIB, PAGE, Skip, check, until

RAM_MIB, TARGET_MIB = 64, 16
RAM_PAGES, TARGET_PAGES = RAM_MIB * MIB // PAGE, TARGET_MIB * MIB // PAGE
RAM = ["block", "pc.ram", "memory-backend-ram", RAM_MIB, "private"]
# include/ballast/protocol.h
EXIT_REFUSED = 84
# How much a client sends that floods: a gigabyte, say.
FLOOD_MIB = int(os.environ.get("BALLAST_FLOOD_MIB", "8"))
CLONE_NEWNS = 0x20000


def start(session, *words, target_mib=TARGET_MIB, **options):
    """A domain of that size that does that."""
    return session.start("vm", [*RAM, *words], target_mib, max_bytes=RAM_MIB * MIB, **options)


def call(client, command, **arguments):
    """A request that must be granted. Returns what it returns."""
    reply = client.call(command, arguments or None)
    check("return" in reply, f"{command}: {reply}")
    return reply["return"]


def must_balance(domain):
    """By its own books all is well, and its total is its target. Returns them."""
    state = domain.query()
    check(state["total_pages"] == state["target_pages"], f"the total moved: {state}")
    check(state["populated_pages"] + state["pod_entries_pages"] + state["out_pages"] == RAM_PAGES
          and state["populated_pages"] + state["cache_pages"] == state["total_pages"],
          f"the sums do not fit: {state}")
    return state


def destroy(domain):
    """Ends it, and sees that it ends well."""
    client = domain.connect()
    call(client, "destroy")
    client.close()
    domain.must_end_destroyed()


def test_scribbles(session):
    """a guest that scribbles on everything, and has no balloon: it ends with status 86, or waits
    while the monitor answers and goes on with more; its total never moves"""
    domain = start(session, "ready", "touch", 0, RAM_PAGES, "hang")
    domain.wait_line("ready")
    observer = fake.Observer(session, "vm")
    domain.go_on()
    status, errors = domain.finish()
    observer.stop()
    check(status == fake.EXIT_EXHAUSTED and errors.count("\n") == 1
          and errors.startswith("ballast: out of memory: "), f"it ended with {status}: {errors}")
    check(not domain.folder.exists(), "it left its folder")

    domain = start(session, "touch", 0, RAM_PAGES, "check", 0, RAM_PAGES, "ready", "hang",
                   on_exhaustion="pause")
    until(lambda: domain.query()["state"] == "exhausted", "it should run dry")
    observer = fake.Observer(session, "vm")
    for _ in range(20):
        check(must_balance(domain)["cache_pages"] == 0, "there was a page left")
        check(session.ballast("stat", "vm").returncode == 0, "ballast stat")
    observer.stop()
    client = domain.connect()
    call(client, "set-target", target_bytes=RAM_MIB * MIB)
    domain.wait_line("ready")
    must_balance(domain)
    destroy(domain)


def test_lies(session):
    """a guest that lies about its balloon: uses what it gave up, gives it up twice, takes back what
    it never gave up, gives up all and goes on. Nothing is lost, and the total never moves"""
    domain = start(session, "ready",
                   "touch", 0, 2048, "give", 0, 1024, "touch", 0, 1024, "check", 0, 2048,  # uses it
                   "give", 0, 700, "give", 0, 700, "touch", 0, 700, "ready",               # twice
                   "take", 0, RAM_PAGES, "check", 0, 2048, "take", 9000, 600, "ready",     # never
                   "give", 0, RAM_PAGES, "touch", 0, 3000, "check", 0, 3000, "ready",      # all
                   "clear", 0, RAM_PAGES, "zeros", 0, RAM_PAGES, "ready", "hang")
    domain.wait_line("ready")
    observer = fake.Observer(session, "vm")
    for _ in range(4):
        domain.go_on()
        domain.wait_line("ready")
        state = must_balance(domain)
    observer.stop()
    check(state["given_up_pages"] != 0 and state["taken_back_pages"] != 0 and state["out_touched"] +
          state["out_in_use"] != 0, f"it should have lied: {state}")
    destroy(domain)


def resident_kib(domain):
    """All that QEMU has of its own, and that is the domain's."""
    status = pathlib.Path(f"/proc/{domain.process.pid}/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0])


def send_until_closed(client, size, piece):
    """Sends so many bytes, or until the other end has had enough. Returns how many went."""
    sent = 0
    with contextlib.suppress(ConnectionError):
        while sent < size:
            sent += client.socket.send(piece)
    return sent


def test_floods(session):
    """clients that send a gigabyte in one line or in many, that stall, and that leave in the middle
    of a line: others are served, and QEMU's memory does not grow"""
    domain = start(session, "ready", "hang")
    domain.wait_line("ready")
    other, before = domain.connect(), resident_kib(domain)

    endless = domain.connect()
    sent = send_until_closed(endless, 1 << 30, b"x" * 65536)
    check(sent < 2 * MIB, f"it let {sent} bytes come in one line")
    call(other, "query-domain")

    stalled = domain.connect()  # never reads what it asked for
    stalled.socket.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            stalled.socket.send(b'{"execute":"query-domain"}\n' * 1000)
    call(other, "query-domain")

    flood = domain.connect()
    line = b'{"execute":"nonsense","id":"' + b"y" * 32000 + b'"}\n'
    lines = FLOOD_MIB * MIB // len(line)

    def pour():
        for _ in range(lines):
            flood.socket.sendall(line)
    sender = threading.Thread(target=pour, daemon=True)
    sender.start()
    for number in range(lines):
        check(flood.read()["error"]["class"] == "CommandNotFound", "an answer to nonsense")
        if number % 50 == 0:
            call(other, "query-domain")
    sender.join()

    for cut in range(1, 60):
        leaver = domain.connect()
        leaver.socket.sendall(b'{"execute": "set-target", "arguments": {"target_bytes": 4194304}}'[:cut])
        leaver.close()
    check(must_balance(domain)["target_pages"] == TARGET_PAGES, "half a line was a command")
    grown = resident_kib(domain) - before
    print(f"  {lines} lines of 32 kB answered; QEMU has {grown} KiB more than before")
    check(grown < 16 * 1024, f"QEMU has {grown} KiB more than before")
    for client in (endless, stalled, flood):
        client.close()
    destroy(domain)


def descriptors(domain):
    """How many it has open."""
    return len(os.listdir(f"/proc/{domain.process.pid}/fd"))


def test_many_clients(session):
    """1,000 clients at once: 16 are served, the others are told that it is busy, and it is as before
    when they are gone"""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < 1100:
        raise Skip(f"only {most} descriptors are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 4096), most))
    domain = start(session, "ready", "hang")
    domain.wait_line("ready")
    before, served, turned_away = descriptors(domain), [], 0
    clients = [domain.connect() for _ in range(1000)]
    for client in clients:
        with contextlib.suppress(fake.Gone):
            reply = client.call("query-domain")
            if "return" in reply:
                served.append(client)
            else:
                check(reply["error"]["class"] == "Busy", reply)
                turned_away += 1
    check(len(served) == 16, f"{len(served)} were served, {turned_away} turned away")
    for client in clients:
        client.close()
    until(lambda: descriptors(domain) == before, "its descriptors should be closed")
    must_balance(domain)
    destroy(domain)


def full_folder(session):
    """The domains' folder becomes a file system of its own, seen by nobody else, that is full after
    fill(). Returns fill and drain."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) != 0:
        raise Skip(f"no mount namespace can be made: {os.strerror(ctypes.get_errno())}")
    for words in (["--make-rprivate", "/"],
                  ["-t", "tmpfs", "-o", "size=64k,nr_inodes=32,mode=0700", "none", session.runtime]):
        done = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Skip(done.stderr.strip())

    def fill(also_inodes):
        with contextlib.suppress(OSError), open(session.runtime / ".fill", "wb", buffering=0) as file:
            while True:
                file.write(bytes(PAGE))
        with contextlib.suppress(OSError):
            for number in range(32 if also_inodes else 0):
                (session.runtime / f".{number}").touch()

    def drain():
        for path in session.runtime.glob(".*"):
            path.unlink()
    return fill, drain


def test_full_disk(session):
    """the folder of the domains is on a full disk: a domain starts, or is refused with a reason; one
    that runs lives on, and ends as ever, also with a report that finds no room"""
    fill, drain = full_folder(session)
    fill(False)
    domain = start(session, "touch", 0, 1000, "ready", "hang")
    domain.wait_line("ready")
    check(session.ballast("ls").returncode == 0 and session.ballast("stat", "vm").returncode == 0,
          "its commands")
    call(domain.connect(), "set-target", target_bytes=32 * MIB)
    must_balance(domain)
    destroy(domain)

    domain = start(session, "touch", 0, 600, "ready", "drop", "touch", 2048, 1, "hang")
    domain.wait_line("ready")
    domain.go_on()
    domain.wait_line("drop")
    described = domain.query()
    domain.go_on(f"{described['cache_start']} {described['cache_bytes']}")
    status, errors = domain.finish()
    check(status == fake.EXIT_BROKEN and "equations: " in errors, f"it ended with {status}: {errors}")

    fill(True)
    done = session.ballast("run", "--name", "other", "--target", "16M", "--",
                           BUILD / "tests/host/fake_qemu", "exit", "0")
    check(done.returncode == EXIT_REFUSED and done.stderr.startswith("ballast: ")
          and done.stderr.count("\n") == 1, f"without an inode: {done}")
    drain()
    check(session.ballast("destroy", "vm").returncode in (0, 1), "the broken one's report")
    domain = start(session, "ready", "hang")
    domain.wait_line("ready")
    destroy(domain)


def test_no_descriptors_at_start(session):
    """a QEMU that may not have enough descriptors: refused with a reason, or it runs; nothing stays"""
    refused, loader = 0, 127  # what the dynamic linker ends with, who needs one for each library
    for most in range(4, 16):
        domain = start(session, "touch", 0, 100, "exit", 7,
                       before=lambda most=most: resource.setrlimit(resource.RLIMIT_NOFILE,
                                                                   (most, most)))
        status, errors = domain.finish()
        refused += status == EXIT_REFUSED
        check(status == 7 or status == EXIT_REFUSED and errors.startswith("ballast: ")
              and errors.count("\n") == 1 or status == loader and "error while loading" in errors,
              f"with {most} descriptors it ended with {status}: {errors}")
    print(f"  {refused} of 12 were refused")
    domain = start(session, "ready", "hang")
    domain.wait_line("ready")
    destroy(domain)


def test_no_descriptors(session):
    """a QEMU that has run out of descriptors: the guest goes on, clients that are connected are
    answered, others wait, and memory is not taken unseen"""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    domain = start(session, "touch", 0, 500, "ready", "hoard", "touch", 500, 2000, "check", 0, 2500,
                   "ready", "hang",
                   before=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, most)))
    domain.wait_line("ready")
    client, pid = domain.connect(), domain.process.pid
    domain.go_on()
    domain.wait_line("ready")
    check(descriptors(domain) == 64, "it should have no descriptor left")
    waiting = socket.socket(socket.AF_UNIX)
    waiting.settimeout(fake.PATIENCE_S)
    waiting.connect(str(domain.folder / "control.sock"))
    reply = client.call("set-target", {"target_bytes": 32 * MIB})
    check(reply.get("error", {}).get("class") == "HostMemory" and "descriptor" in
          reply["error"]["desc"], f"set-target: {reply}")
    call(client, "set-target", target_bytes=12 * MIB)
    call(client, "query-map")
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, most))
    check(b"BALLAST" in waiting.recv(4096), "who waited should be greeted")
    call(client, "set-target", target_bytes=32 * MIB)
    must_balance(domain)
    destroy(domain)


def test_stopped(session):
    """a QEMU that is stopped and continued: commands do not hang, and it goes on as if nothing had
    happened"""
    domain = start(session, "ready", "touch", 0, 2000, "check", 0, 2000, "ready", "hang")
    domain.wait_line("ready")
    client = domain.connect()
    domain.go_on()
    for _ in range(20):
        os.kill(domain.process.pid, signal.SIGSTOP)
        os.kill(domain.process.pid, signal.SIGCONT)
    os.kill(domain.process.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, domain.process.pid, os.WSTOPPED)  # it takes its threads a moment
    done = session.ballast("stat", "vm")
    check(done.returncode == 1 and done.stderr.count("\n") == 1, f"of a stopped one: {done}")
    client.send("query-domain")
    os.kill(domain.process.pid, signal.SIGCONT)
    check("return" in client.read(), "an answer, late")
    domain.wait_line("ready")
    must_balance(domain)
    destroy(domain)


def test_killed_launchers(session):
    """`ballast run` is killed at any moment, before it becomes QEMU and after: the next of the same
    name starts"""
    rng = random.Random(int.from_bytes(os.urandom(4), "little"))
    seen = {"nothing": 0, "folder": 0, "socket": 0}
    for _ in range(25):
        process = session.start_ballast("run", "--name", "vm", "--target", "16M", "--",
                                        BUILD / "tests/host/fake_qemu", "block", "pc.ram",
                                        "memory-backend-ram", 128, "private", "hang")
        time.sleep(rng.random() * 0.06)
        process.kill()
        process.communicate()
        folder = session.runtime / "vm"
        seen["socket" if (folder / "control.sock").exists() else
             "folder" if folder.exists() else "nothing"] += 1
    print("  killed with: " + ", ".join(f"{what} {count}" for what, count in seen.items()))
    process = session.start_ballast("run", "--name", "vm", "--target", "16M", "--",
                                    BUILD / "tests/host/fake_qemu", "block", "pc.ram",
                                    "memory-backend-ram", 128, "private", "exit", 7)
    _, errors = process.communicate(timeout=fake.PATIENCE_S)
    check(process.returncode == 7 and errors == "", f"{process.returncode}: {errors}")


def test_killed_clients(session):
    """clients are killed while they set targets, wait and listen: the domain does not mind"""
    domain = start(session, "touch", 0, 500, "give", 512, RAM_PAGES - 512, "ready", "hang")
    domain.wait_line("ready")
    rng = random.Random(5)
    for number in range(12):
        words = (("set", "vm", f"{12 + number}M", "--wait"), ("events", "vm"),
                 ("record", "vm", "-o", session.folder / "trace"))[number % 3]
        process = session.start_ballast(*words)
        time.sleep(rng.random() * 0.05)
        process.kill()
        process.communicate()
    client = domain.connect()
    call(client, "set-target", target_bytes=TARGET_MIB * MIB)
    until(lambda: not domain.query()["shrinking"], "it should come down")
    destroy(domain)


def test_clock(session):
    """a clock that jumps ten years ahead and back, each time that somebody asks: events come in their
    order, what waits waits as long as ever, and nothing else looks at it"""
    jumps = BUILD / "tests/host/jumping_clock.so"
    domain = start(session, "touch", 0, 500, "give", 512, RAM_PAGES - 512, "ready", "hang",
                   preload=[jumps])
    domain.wait_line("ready")
    listener, client = domain.connect(), domain.connect()
    call(listener, "subscribe", past=True)
    for mib in (20, 24, TARGET_MIB):
        call(client, "set-target", target_bytes=mib * MIB)
        until(lambda: not call(client, "query-domain")["shrinking"], "it should get there")
    environment = dict(os.environ, BALLAST_RUNTIME_DIR=str(session.runtime), LD_PRELOAD=str(jumps),
                       ASAN_OPTIONS="verify_asan_link_order=0:detect_leaks=0")
    for words, status in ((("set", "vm", "24M", "--wait", "--timeout", "30"), 0),
                          (("set", "vm", f"{TARGET_MIB}M", "--wait", "--timeout", "30"), 0),
                          (("stat", "vm"), 0), (("ls",), 0)):
        done = subprocess.run([BUILD / "tools/ballast", *words], env=environment, text=True,
                              capture_output=True, timeout=fake.PATIENCE_S, check=False)
        check(done.returncode == status, f"{words}: {done}")
    destroy(domain)
    events = [message for message in listener.wait_closed() if "event" in message]
    names = [event["event"] for event in events]
    times = [event["timestamp"]["seconds"] for event in events]
    check(names[0] == "BUILT" and names[-1] == "DYING" and names.count("TARGET_CHANGED") == 5,
          f"events: {names}")
    check(max(times) - min(times) > 10 * 365 * 86400, f"the clock did not jump: {times}")


fake.run_tests(test_scribbles, test_lies, test_floods, test_many_clients,
               test_no_descriptors_at_start, test_no_descriptors, test_stopped,
               test_killed_launchers, test_killed_clients, test_clock, test_full_disk)
