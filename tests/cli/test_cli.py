# SPDX-License-Identifier: MIT
"""The ballast command, driven as an operator does it.

test_cli.py BALLAST FAKE_DOMAIN AGENT [PART_OF_A_TEST'S_NAME...]

The domains are fake_domain processes; `run` is given scripts and small
programs in QEMU's place. Prints what failed; exit status 0 or 1.
"""
import contextlib
import fcntl
import json
import os
import re
import select
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import termios
import time
import traceback

BALLAST, FAKE_DOMAIN, AGENT = (os.path.abspath(p) for p in sys.argv[1:4])

KEYS = {
    "name", "pid", "state", "max_pages", "target_pages", "total_pages", "populated_pages",
    "cache_pages", "pod_entries_pages", "out_pages", "covered", "faults", "populated_2m",
    "populated_4k", "reclaimed_2m", "reclaimed_4k", "sweeps", "busy_skips", "fault_p50_ns",
    "fault_p99_ns", "fault_max_ns", "cache_superpages", "ram_start", "ram_bytes", "cache_start",
    "cache_bytes", "given_pages", "shrinking", "given_up_pages", "taken_back_pages", "out_touched",
    "discarded_pages", "ahead_2m", "recovered_2m", "refilled_pages", "growing_pages", "growing_ready_pages", "out_in_use",
}
PAGES_PER_MIB = 256
EVENTS = ("BUILT", "LOW_CACHE", "EXHAUSTED", "RESUMED", "TARGET_CHANGED", "TARGET_REACHED",
          "COVERED", "DYING")
USAGE, DESTROYED, REFUSED = 2, 82, 84
# No test waits this long unless something hangs.
LIMIT_S = 60


class Skip(Exception):
    """This host cannot run the test; the text says why."""


class Place:
    """A folder for one test, with a BASE in it, and the processes it started."""

    def __init__(self):
        self.root = tempfile.mkdtemp(prefix="bl-")
        self.base = os.path.join(self.root, "run")
        self.ballast_path = BALLAST
        self.processes = []
        self.env = dict(os.environ, BALLAST_RUNTIME_DIR=self.base)
        for name in ("LD_PRELOAD", "BALLAST_AGENT", "BALLAST_AGENT_SO"):
            self.env.pop(name, None)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.communicate()
        shutil.rmtree(self.root, ignore_errors=True)

    def ballast(self, *words, env=None, **more):
        return subprocess.run([BALLAST, *words], env=env or self.env, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=LIMIT_S, check=False, **more)

    def start(self, *words, env=None, **more):
        process = subprocess.Popen(words, env=env or self.env, stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)
        self.processes.append(process)
        return process

    def domain(self, name, mode="normal"):
        process = self.start(FAKE_DOMAIN, self.base, name, mode)
        wait_for_line(process, "ready")
        return process

    def file(self, name, text="", mode=0o755):
        path = os.path.join(self.root, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, mode)
        return path

    def folder(self, name):
        return os.path.join(self.base, name)


def tell(domain, line):
    """Has a fake domain obey a line."""
    domain.stdin.write(line + "\n")
    domain.stdin.flush()
    wait_for_line(domain, "done")


def wait_for_line(process, wanted):
    line = process.stdout.readline().strip()
    if line != wanted:
        raise AssertionError(f"expected {wanted!r}, got {line!r}: {process.stderr.read()}")


def check(condition, *what):
    if not condition:
        raise AssertionError(" ".join(str(w) for w in what))


def check_failed(result, status, *pieces):
    """One line on standard error, nothing on standard output."""
    check(result.returncode == status, "status", result.returncode, "not", status, result)
    check(result.stdout == "", "output in spite of an error:", result)
    check(result.stderr.count("\n") == 1 and result.stderr.endswith("\n"), "not one line:", result)
    check(result.stderr.startswith("ballast: "), result)
    for piece in pieces:
        check(piece in result.stderr, repr(piece), "is not in", result.stderr)


def test_help_and_version(place):
    result = place.ballast("--version")
    check(result.returncode == 0 and result.stdout.startswith("ballast "), result)
    for words in ([], ["run"], ["ls"], ["stat"], ["map"], ["top"], ["destroy"]):
        for option in ("--help", "-h"):
            result = place.ballast(*words, option)
            check(result.returncode == 0 and result.stderr == "", words, result)
            check("Usage: ballast" in result.stdout and "Examples:" in result.stdout, result)
    check(not os.path.exists(place.base), "help made the folder")


def test_bad_command_lines(place):
    table = [
        ([], "--help"),
        (["frob"], "'frob'"),
        (["--frob"], "'--frob'"),
        (["ls", "vm1"], "'vm1'"),
        (["ls", "--frob"], "'--frob'"),
        (["ls", "--json=yes"], "no value"),
        (["stat"], "one name"),
        (["stat", "a", "b"], "one name"),
        (["stat", "../x"], "'../x'"),
        (["stat", ".hidden"], "'.hidden'"),
        (["stat", ""], "''"),
        (["stat", "a/b"], "'a/b'"),
        (["stat", "x" * 65], "64"),
        (["set"], "name"),
        (["set", "x"], "size"),
        (["set", "x", "64M", "y"], "'y'"),
        (["set", "a/b", "64M"], "'a/b'"),
        (["set", "x", "64"], "no unit"),
        (["set", "x", "1M"], "2 MiB"),
        (["set", "x", "2049.5K"], "4 KiB"),
        (["set", "x", "64M", "--timeout", "1"], "--wait"),
        (["set", "x", "64M", "--wait", "--timeout", "soon"], "'soon'"),
        (["set", "x", "64M", "--frob"], "'--frob'"),
        (["map"], "name"),
        (["map", "a", "b"], "'b'"),
        (["map", "a/b"], "'a/b'"),
        (["map", "a", "--cell", "3M"], "2 MiB"),
        (["map", "a", "--cell", "big"], "'big'"),
        (["map", "a", "--cell", "32T"], "16 TiB"),
        (["map", "a", "--width", "19"], "20 to 1000"),
        (["map", "a", "--width", "1e2"], "'1e2'"),
        (["map", "a", "-o", "a.jpg"], ".png"),
        (["map", "a", "--json", "-o", "a.png"], "--json"),
        (["events", "a", "b"], "'b'"),
        (["events", "a/b"], "'a/b'"),
        (["events", "--frob"], "'--frob'"),
        (["destroy"], "one name"),
        (["destroy", "--timeout"], "--timeout"),
        (["destroy", "--timeout", "soon", "x"], "'soon'"),
        (["destroy", "--timeout", "-1", "x"], "'-1'"),
        (["destroy", "--timeout", "nan", "x"], "'nan'"),
        (["destroy", "--timeout=", "x"], "''"),
        (["run"], "--target"),
        (["run", "--target"], "--target"),
        (["run", "--target", "64M"], "QEMU"),
        (["run", "--target", "64M", "--"], "QEMU"),
        (["run", "--frob", "--target", "64M", "q"], "'--frob'"),
        (["run", "--target", "64", "q"], "no unit"),
        (["run", "--target", "64MB", "q"], "MiB"),
        (["run", "--target", "lots", "q"], "'lots'"),
        (["run", "--target", "0M", "q"], "2 MiB"),
        (["run", "--target", "1M", "q"], "2 MiB"),
        (["run", "--target", "2049.5K", "q"], "4 KiB"),
        (["run", "--target", "2G", "q", "-m", "1G"], "1 GiB"),
        (["run", "--target", "129M", "q"], "128 MiB"),
        (["run", "--target", "2G", "q", "-m", "what"], "-m what"),
        (["run", "--target", "2G", "q", "-m", "17T"], "16 TiB"),
        (["run", "--target", "64M", "--name", "a b", "q"], "'a b'"),
        (["run", "--target", "64M", "--on-exhaustion", "stop", "q"], "'stop'"),
        (["run", "--target", "64M", "--no-balloon=yes", "q"], "no value"),
        (["run", "--target", "64M", "q", "-name", "my guest"], "'my guest'"),
    ]
    for words, piece in table:
        check_failed(place.ballast(*words), USAGE, piece, "--help")
    check(not os.path.exists(place.base), "a bad command line made the folder")


def test_what_cannot_be_run(place):
    script = place.file("script", "#!/bin/sh\nexit 0\n")
    plain = place.file("plain", "x", mode=0o644)
    table = [
        (["no-such-program"], "'no-such-program'"),
        ([os.path.join(place.root, "none")], "no such file"),
        ([plain], plain),
        ([place.root], place.root),
        ([script, "-m", "1G", "-mem-path", "/x"], "-mem-path"),
        ([script, "-m", "1G", "-device", "vfio-pci,host=1"], "vfio-pci"),
        ([script, "-object", "memory-backend-memfd,id=x,size=1G"], "memory-backend-memfd"),
    ]
    for words, piece in table:
        check_failed(place.ballast("run", "--target", "64M", "--", *words), REFUSED, piece)
    check(not os.path.exists(place.base), "a refused domain made the folder")


def test_no_base(place):
    env = {k: v for k, v in place.env.items() if k != "BALLAST_RUNTIME_DIR"}
    check_failed(place.ballast("ls", env=dict(env, BALLAST_RUNTIME_DIR="relative")), 1, "absolute")
    long = dict(env, BALLAST_RUNTIME_DIR=os.path.join(place.root, "x" * 100))
    check_failed(place.ballast("stat", "vm1", env=long), 1, "vm1")


def test_nothing_runs(place):
    result = place.ballast("ls")
    check(result.returncode == 0 and result.stdout.startswith("NAME"), result)
    check(result.stdout.count("\n") == 1, result)
    check(json.loads(place.ballast("ls", "--json").stdout) == [])
    check_failed(place.ballast("stat", "vm1"), 1, "'vm1'", "none")
    check_failed(place.ballast("destroy", "vm1"), 1, "'vm1'", "none")


def test_ls_and_stat(place):
    one = place.domain("one")
    place.domain("another-name")
    listed = json.loads(place.ballast("ls", "--json").stdout)
    check([d["name"] for d in listed] == ["another-name", "one"], listed)
    for domain in listed:
        check(set(domain) == KEYS, set(domain) ^ KEYS)
    check(listed[1]["pid"] == one.pid)
    state = json.loads(place.ballast("stat", "--json", "one").stdout)
    check(state == listed[1], state)

    table = place.ballast("ls")
    lines = table.stdout.splitlines()
    check(table.returncode == 0 and len(lines) == 3, table)
    check(lines[1].split() == ["another-name", str(listed[0]["pid"]), "running", "1024.0", "256.0",
                               "64.0", "192.0", "960.0", "25%", "no"], lines)
    check(len({line.index(w) for line, w in zip(lines, ("STATE", "running", "running"))}) == 1)

    text = place.ballast("stat", "one")
    check(text.returncode == 0 and text.stderr == "", text)
    for piece in (f"one: running, pid {one.pid}", "1 GiB", "256 MiB (25.0% of max)",
                  "64 MiB (25.0% of total)", "192 MiB (75.0% of total)",
                  "960 MiB (93.8% of max)", "no: entries exceed the cache by 768 MiB", "77",
                  "2 MiB given up, 1 MiB taken back; 6 pages touched", "512 KiB that guest",
                  "50.0 us", "2000.0 us", "32 superpages, 5 pages", "3 superpages, 2 pages"):
        check(piece in text.stdout, piece, "is not in", text.stdout)
    check_failed(place.ballast("stat", "three"), 1, "'three'", "another-name, one")


def test_map(place):
    fake = place.domain("vm1")
    tell(fake, "map H30R2OG1i3bq5P200O40H10y3t2P202 500")
    lines = place.ballast("map", "vm1").stdout.splitlines()
    check(lines[0].startswith("vm1: running; max 1 GiB, target 256 MiB, "), lines)
    check(lines[1] == "one cell is 2 MiB, a superpage", lines)
    check(lines[2] == "        0 " + "H" * 30 + "RRog888100000" + "." * 21, lines)
    check(lines[5] == "  384 MiB " + "." * 51 + "o" * 13, lines)
    check(lines[9].split() == ["896", "MiB", "." * 52], lines)
    check([line.split()[1] for line in lines[10:]] == ["402", "40", "2", "41", "1", "14"], lines)
    narrow = place.ballast("map", "--width", "30", "vm1", "--cell", "16M").stdout.splitlines()
    check(narrow[1] == "one cell is 16 MiB, 8 superpages", narrow)
    check([line[10:] for line in narrow[2:6]] ==
          ["HHHR40" + "." * 10, "." * 14 + "0o", "ooo581" + "." * 10, "." * 15], narrow)
    found = json.loads(place.ballast("map", "--json", "vm1").stdout)
    check(found["superpages"] == 500 and found["counts"] == {
        "pod": 402, "huge": 40, "ram": 2, "out": 41, "given": 1, "split": 14}, found)
    check(found["runs"][4] == {"from": 34, "count": 3, "state": "split", "ram_eighths": 8,
                               "rest": "pod"}, found)
    check(found["runs"][6]["rest"] == "given_up", found)
    check(sum(run["count"] for run in found["runs"]) == 500, found)
    tell(fake, "map P9000 9000")
    lines = place.ballast("map", "vm1").stdout.splitlines()
    check(lines[1] == "one cell is 16 MiB, 8 superpages" and len(lines) == 2 + 18 + 1, lines)
    tell(fake, "map - 0")
    check_failed(place.ballast("map", "vm1"), 1, "being built")
    check_failed(place.ballast("map", "vm2"), 1, "no domain 'vm2'", "vm1")
    place.domain("odd", mode="strange")
    check_failed(place.ballast("map", "odd"), 1, "'odd'")


def test_map_as_a_picture(place):
    fake = place.domain("vm1")
    tell(fake, "map HRO3G1iq 8")
    for end, magic in (("svg", b"<?xml"), ("png", b"\x89PNG")):
        picture = os.path.join(place.root, "map." + end)
        result = place.ballast("map", "vm1", "-o", picture)
        if "without cairo" in result.stderr:
            raise Skip(result.stderr.strip())
        check(result.returncode == 0 and result.stdout == "", result)
        with open(picture, "rb") as file:
            check(file.read(5).startswith(magic), picture)
    missing = os.path.join(place.root, "none", "map.svg")
    check_failed(place.ballast("map", "vm1", "-o", missing), 1, missing, "-o")


def test_colours_only_where_wanted(place):
    """On a terminal that has them, unless NO_COLOR says not to."""
    tell(place.domain("vm1"), "map HROGPi 6")
    table = [({"TERM": "xterm-256color"}, "\033[0;38;5;231;48;5;25mH"),
             ({"TERM": "xterm"}, "\033[0;37;44mH"),
             ({"TERM": "dumb"}, None), ({"TERM": "xterm", "NO_COLOR": "1"}, None)]
    for variables, piece in table:
        env = {key: value for key, value in place.env.items()
               if key not in ("NO_COLOR", "COLORTERM")}
        said = on_terminal(place, ["map", "vm1"], dict(env, **variables))
        check(("\033" not in said) if piece is None else piece in said, variables, repr(said))
        check("HRog.8" in re.sub("\033[^m]*m", "", said), repr(said))


def test_a_shrinking_domain(place):
    domain = place.domain("vm1")
    check("shrinking" not in place.ballast("stat", "vm1").stdout)
    check(place.ballast("set", "vm1", "128M").returncode == 0)
    result = place.ballast("stat", "vm1")
    check("shrinking    128 MiB more than the target" in result.stdout, result)
    result = place.ballast("ls")
    check(result.stdout.splitlines()[1].split()[2] == "shrinking", result)
    tell(domain, "state exhausted")
    result = place.ballast("ls")
    check(result.stdout.splitlines()[1].split()[2] == "exhausted", result)


def test_set(place):
    domain = place.domain("vm1")
    check_failed(place.ballast("set", "vm2", "64M"), 1, "'vm2'", "vm1")
    result = place.ballast("set", "vm1", "512M")
    check(result.returncode == 0 and result.stderr == "", result)
    check("the target is 512 MiB, was 256 MiB; the domain owns it" in result.stdout, result)
    result = place.ballast("set", "vm1", "512M")
    check("512 MiB as before; the domain has no more" in result.stdout, result)
    result = place.ballast("set", "vm1", "128M")
    check("is 128 MiB, was 512 MiB; 384 MiB more go back" in result.stdout, result)
    state = json.loads(place.ballast("stat", "--json", "vm1").stdout)
    check(state["target_pages"] == 128 * PAGES_PER_MIB, state)
    # What the domain refuses, and what it is not even asked.
    for name in ("HostMemory", "Busy", "WrongState", "InvalidArgument"):
        tell(domain, f"refuse {name}")
        check_failed(place.ballast("set", "vm1", "64M"), 1, "not changed", f"refused with {name}")
        tell(domain, f"refuse {name}")
        check_failed(place.ballast("set", "vm1", "64M", "--wait"), 1, f"refused with {name}")
    check_failed(place.ballast("set", "vm1", "1025M"), 1, "not changed", "1 GiB")
    place.domain("starting", "starting")
    check_failed(place.ballast("set", "starting", "64M"), 1, "not changed", "listen")
    place.domain("deaf", "deaf")
    check_failed(place.ballast("set", "deaf", "64M"), 1, "not changed", "answer")
    state = json.loads(place.ballast("stat", "--json", "vm1").stdout)
    check(state["target_pages"] == 128 * PAGES_PER_MIB, state)


def start_waiting(place, domain):
    """`ballast set vm1 128M --wait`, when it has set the target."""
    check(place.ballast("set", "vm1", "100M").returncode == 0)
    process = place.start(BALLAST, "set", "vm1", "128M", "--wait")
    deadline = time.monotonic() + LIMIT_S
    while process.poll() is None and time.monotonic() < deadline:
        state = json.loads(place.ballast("stat", "--json", "vm1").stdout)
        if state["target_pages"] == 128 * PAGES_PER_MIB:
            break
    check(domain.poll() is None)
    return process


def test_set_and_wait(place):
    # Told by an event, and by nothing but the state.
    for word in ("total", "silent"):
        domain = place.domain("vm1")
        process = start_waiting(place, domain)
        tell(domain, f"{word} {150 * PAGES_PER_MIB}")
        check(process.poll() is None, "did not wait")
        tell(domain, f"{word} {128 * PAGES_PER_MIB}")
        output, errors = process.communicate(timeout=LIMIT_S)
        check(process.returncode == 0 and errors == "", process.returncode, errors)
        check(output == "vm1: has its target, 128 MiB\n", output)
        domain.kill()
        domain.wait()
    # Nothing to wait for.
    place.domain("vm1")
    for size in ("512M", "512M", "1G"):
        result = place.ballast("set", "--wait", "vm1", size)
        check(result.returncode == 0 and "has its target" in result.stdout, result)


def test_set_and_wait_in_vain(place):
    domain = place.domain("vm1")
    result = place.ballast("set", "vm1", "128M", "--wait", "--timeout", "0.2")
    check_failed(result, 1, "not reached in time", "256 MiB, 128 MiB above its target, 128 MiB",
                 "keeps 64 MiB in use", "target stands")
    process = start_waiting(place, domain)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=LIMIT_S)
    check(process.returncode == 130 and output == "", process.returncode, output)
    check("interrupted" in errors and "target stands" in errors, errors)
    state = json.loads(place.ballast("stat", "--json", "vm1").stdout)
    check(state["target_pages"] == 128 * PAGES_PER_MIB, state)
    # Somebody else sets another one.
    process = start_waiting(place, domain)
    check(place.ballast("set", "vm1", "100M").returncode == 0)
    output, errors = process.communicate(timeout=LIMIT_S)
    check(process.returncode == 1 and "100 MiB" in errors, process.returncode, errors)
    # It ends, one way and the other.
    check(place.ballast("set", "vm1", "128M").returncode == 0)
    process = start_waiting(place, domain)
    tell(domain, "state dying")
    output, errors = process.communicate(timeout=LIMIT_S)
    check(process.returncode == 1 and "ending" in errors, process.returncode, errors)
    tell(domain, "state running")
    process = start_waiting(place, domain)
    domain.kill()
    output, errors = process.communicate(timeout=LIMIT_S)
    # Whether it has begun to wait by then depends.
    check(process.returncode == 1 and errors.count("\n") == 1, errors)
    check("cannot be asked any more" in errors or "target of 'vm1' is set" in errors, errors)


def on_terminal(place, words, env=None):
    """All that a command says to a terminal."""
    master, slave = os.openpty()
    process = subprocess.Popen([BALLAST, *words], env=env or place.env, stdin=subprocess.DEVNULL,
                               stdout=slave, stderr=slave)
    os.close(slave)
    place.processes.append(process)
    said = b""
    while True:
        check(select.select([master], [], [], LIMIT_S)[0], said)
        try:
            piece = os.read(master, 4096)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        said += piece
    os.close(master)
    check(process.wait(LIMIT_S) == 0, process.returncode, said)
    return said.decode()


def test_set_shows_progress_on_a_terminal(place):
    domain = place.domain("vm1")
    master, slave = os.openpty()
    process = subprocess.Popen([BALLAST, "set", "vm1", "128M", "--wait"], env=place.env,
                               stdin=subprocess.DEVNULL, stdout=slave, stderr=slave)
    os.close(slave)
    place.processes.append(process)
    shown = b""
    while b"vm1: 256 MiB, 128 MiB to go" not in shown:
        check(select.select([master], [], [], LIMIT_S)[0], shown)
        shown += os.read(master, 4096)
    tell(domain, f"total {128 * PAGES_PER_MIB}")
    check(process.wait(LIMIT_S) == 0, process.returncode)
    while b"has its target, 128 MiB" not in shown:
        check(select.select([master], [], [], LIMIT_S)[0], shown)
        shown += os.read(master, 4096)
    os.close(master)


def test_set_while_the_host_takes_its_time(place):
    domain = place.domain("vm1")
    tell(domain, "slow 1")
    master, slave = os.openpty()
    process = subprocess.Popen([BALLAST, "set", "vm1", "512M"], env=place.env,
                               stdin=subprocess.DEVNULL, stdout=slave, stderr=slave)
    place.processes.append(process)
    shown = b""
    while b"vm1: the host has given 128 MiB of 256 MiB" not in shown:
        check(select.select([master], [], [], LIMIT_S)[0], shown)
        shown += os.read(master, 4096)
    # Meanwhile it can be looked at, and takes no second target.
    result = place.ballast("stat", "vm1")
    check(result.returncode == 0 and "128 MiB of 256 MiB" in result.stdout, result)
    check_failed(place.ballast("set", "vm1", "1G"), 1, "not changed", "under way")
    # Ctrl-C ends the waiting, and not what is under way.
    process.send_signal(signal.SIGINT)
    check(process.wait(LIMIT_S) != 0)
    tell(domain, "slow 0")
    while json.loads(place.ballast("stat", "--json", "vm1").stdout)["growing_pages"]:
        time.sleep(0.01)
    check(json.loads(place.ballast("stat", "--json", "vm1").stdout)["target_pages"] ==
          512 * PAGES_PER_MIB)
    # With --wait it says so.
    tell(domain, "slow 1")
    process = place.start(BALLAST, "set", "vm1", "768M", "--wait")
    while not json.loads(place.ballast("stat", "--json", "vm1").stdout)["growing_pages"]:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=LIMIT_S)[1]
    check(process.returncode == 130 and "goes on bringing memory" in errors, errors)
    os.close(master)
    os.close(slave)


class Follower:
    """`ballast events --json`, and the events that it has printed."""

    def __init__(self, place, *words):
        self.process = place.start(BALLAST, "events", "--json", *words)
        self.received = b""
        self.skipped = []

    def next(self, timeout=LIMIT_S):
        """The next event, or None."""
        while b"\n" not in self.received:
            if not select.select([self.process.stdout], [], [], timeout)[0]:
                return None
            piece = os.read(self.process.stdout.fileno(), 65536)
            if not piece:
                raise AssertionError(f"ended: {self.process.communicate(timeout=LIMIT_S)}")
            self.received += piece
        line, self.received = self.received.split(b"\n", 1)
        event = json.loads(line)
        check(set(event) == {"event", "data", "timestamp"}, event)
        check(set(event["timestamp"]) == {"seconds", "microseconds"}, event)
        return event

    def next_but(self, *skip):
        """The next event that is none of these."""
        while True:
            event = self.next()
            check(event is not None, "no event")
            if event["event"] not in skip:
                return event

    def wait_for(self, domain, name):
        """Pushes an event until one comes through: the domain is followed then. Those that come
        before it are in `skipped`."""
        self.skipped = []
        while True:
            tell(domain, f"event {name}")
            event = self.next(timeout=0.05)
            if event is not None and event["event"] == name:
                return event
            if event is not None:
                self.skipped.append(event)

    def end(self):
        output, errors = self.process.communicate(timeout=LIMIT_S)
        check(self.process.returncode == 0 and errors == "", self.process.returncode, errors)
        return self.received.decode() + output


def test_events_of_one(place):
    check_failed(place.ballast("events", "vm1"), 1, "'vm1'", "none")
    domain = place.domain("vm1")
    place.domain("other")
    follower = Follower(place, "vm1")
    follower.wait_for(domain, "HELLO")
    for name in EVENTS:
        tell(domain, f"event {name}")
    for name in EVENTS:
        event = follower.next_but("HELLO")
        check(event["event"] == name, event, "instead of", name)
        check(event["data"] == {"name": "vm1", "target_pages": 65536, "total_pages": 65536,
                                "cache_pages": 49152, "pod_entries_pages": 245760}, event)
    check(place.ballast("destroy", "vm1").returncode == 0)
    event = follower.next()
    check(event["event"] == "GONE" and event["data"] == {"name": "vm1"}, event)
    check(follower.end() == "")


def test_events_in_words(place):
    domain = place.domain("vm1")
    process = place.start(BALLAST, "events", "vm1")
    while not select.select([process.stdout], [], [], 0.05)[0]:
        tell(domain, "event HELLO")
    for name in EVENTS:
        tell(domain, f"event {name}")
    domain.kill()
    output, errors = process.communicate(timeout=LIMIT_S)
    check(process.returncode == 0 and errors == "", process.returncode, errors)
    lines = [line for line in output.splitlines() if "HELLO" not in line]
    pieces = ("built: it owns 256 MiB", "low cache: 192 MiB are left for 960 MiB", "exhausted: ",
              "resumed: ", "target changed: 256 MiB", "target reached: ", "covered: ", "dying",
              "gone")
    check(len(lines) == len(pieces), lines)
    for line, piece in zip(lines, pieces):
        check(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} vm1 ", line), line)
        check(line[28:].startswith(piece), line, "is not", piece)


def test_events_of_all(place):
    # Nothing runs yet, and BASE is not there.
    follower = Follower(place)
    one = place.domain("one")
    two = place.domain("two", "starting")
    place.domain("deaf", "deaf")
    follower.wait_for(one, "HELLO")
    tell(two, "listen")
    event = follower.wait_for(two, "SECOND")
    check(event["data"]["name"] == "two", event)
    one.kill()
    event = follower.next_but("HELLO", "SECOND")
    check(event["event"] == "GONE" and event["data"]["name"] == "one", event)
    # The same name again.
    one.wait()
    one = place.domain("one")
    event = follower.wait_for(one, "AGAIN")
    check(event["data"]["name"] == "one", event)
    for number in (signal.SIGINT, signal.SIGTERM):
        follower.process.send_signal(number)
        output = follower.end()
        check(output == "" or output.endswith("\n"), output)
        follower = Follower(place)
        follower.wait_for(one, "HELLO")


def test_events_of_the_past(place):
    """What happened to a new domain before anybody could listen is told; to an old one, not."""
    old = place.domain("old")
    tell(old, "event BUILT")
    follower = Follower(place)
    one = Follower(place, "old")
    for each in (follower, one):
        each.wait_for(old, "HELLO")
        check(each.skipped == [], each.skipped)
    new = place.domain("new", "starting")
    for name in ("BUILT", "COVERED"):
        tell(new, f"event {name}")
    tell(new, "listen")
    tell(new, "event DYING")
    for name in ("BUILT", "COVERED", "DYING"):
        event = follower.next_but("HELLO")
        check(event["event"] == name and event["data"]["name"] == "new", event)


def stop(pid):
    """Stops a child of ours, and waits until it stands."""
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED)


def test_lost_events(place):
    """A reader that stops reading hears how many it missed, where it missed them."""
    domain = place.domain("vm1")
    follower = Follower(place, "vm1")
    follower.wait_for(domain, "HELLO")
    stop(follower.process.pid)
    tell(domain, "flood 20000")
    tell(domain, "event COVERED")
    # Nobody else is held up.
    check(place.ballast("stat", "vm1").returncode == 0)
    os.kill(follower.process.pid, signal.SIGCONT)
    count, event = 0, follower.next_but("HELLO")
    while event["event"] == "LOW_CACHE":
        count, event = count + 1, follower.next()
    check(event["event"] == "LOST" and event["data"]["name"] == "vm1", event)
    check(0 < count < 20000 and count + event["data"]["events"] == 20001, count, event)
    tell(domain, "event RESUMED")
    check(follower.next()["event"] == "RESUMED")


def test_modes(place):
    place.domain("vm1")
    for path, mode in (("", 0o700), ("control.sock", 0o600), ("lock", 0o600)):
        found = stat.S_IMODE(os.lstat(os.path.join(place.folder("vm1"), path)).st_mode)
        check(found == mode, path, oct(found))
    found = stat.S_IMODE(os.lstat(place.base).st_mode)
    check(found == (0o755 if os.geteuid() == 0 else 0o700), oct(found))


def test_full_output(place):
    if not os.path.exists("/dev/full"):
        raise Skip("there is no /dev/full")
    place.domain("vm1")
    for words in (["ls"], ["ls", "--json"], ["stat", "vm1"]):
        with open("/dev/full", "w", encoding="utf-8") as full:
            result = subprocess.run([BALLAST, *words], env=place.env, stdout=full,
                                    stderr=subprocess.PIPE, text=True, timeout=LIMIT_S, check=False)
        check(result.returncode == 1 and "written" in result.stderr, result)


def test_domains_that_do_not_answer(place):
    place.domain("good")
    place.domain("starting", "starting")
    place.domain("deaf", "deaf")
    place.domain("strange", "strange")
    listed = {d["name"]: d for d in json.loads(place.ballast("ls", "--json").stdout)}
    check(set(listed["good"]) == KEYS, listed["good"])
    for name, piece in (("starting", "listen"), ("deaf", "answer"), ("strange", "'pid'")):
        check(set(listed[name]) == {"name", "error"} and piece in listed[name]["error"], listed)
        check_failed(place.ballast("stat", name), 1, f"'{name}'", piece)
    result = place.ballast("ls")
    check(result.returncode == 0 and result.stdout.count("\n") == 5, result)


def test_destroy(place):
    domain = place.domain("vm1")
    result = place.ballast("destroy", "vm1")
    check(result.returncode == 0 and result.stdout == "vm1: destroyed\n", result)
    check(domain.wait(LIMIT_S) == DESTROYED, domain.returncode)
    check(os.listdir(place.base) == [], os.listdir(place.base))
    check_failed(place.ballast("destroy", "vm1"), 1, "'vm1'")


def test_destroy_by_force(place):
    for mode, piece in (("stubborn", "did not end"), ("deaf", "killed"), ("starting", "killed"),
                        ("refusing", "no, thank you")):
        domain = place.domain(mode, mode)
        result = place.ballast("destroy", "--timeout", "0.3", mode)
        check(result.returncode == 0, result)
        check(piece in result.stdout and f"killed (process {domain.pid})" in result.stdout, result)
        check(domain.wait(LIMIT_S) == -signal.SIGKILL, domain.returncode)
        check(not os.path.exists(place.folder(mode)))


def test_destroy_shows_progress_on_a_terminal(place):
    place.domain("vm1", "stubborn")
    master, slave = os.openpty()
    columns = 24
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 25, columns, 0, 0))
    process = subprocess.Popen([BALLAST, "destroy", "--timeout", "1.2", "vm1"], env=place.env,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=slave)
    place.processes.append(process)
    output = process.communicate(timeout=LIMIT_S)[0].decode()
    os.close(slave)
    shown = b""
    with contextlib.suppress(OSError):
        while True:
            shown += os.read(master, 4096)
    os.close(master)
    check(process.returncode == 0 and "killed" in output, process.returncode, output)
    lines = shown.decode().split("\r")
    # No line is too long for the terminal, and none is left.
    for wanted in ("vm1: asking it to end; ", "vm1: its process ends; 1"):
        check(any(line.startswith(wanted[:columns - 1]) for line in lines), wanted, shown)
    check(all(len(line.removesuffix("\x1b[K")) < columns for line in lines), shown)
    check(shown.endswith(b"\r\x1b[K"), shown)


def test_destroy_a_stopped_one(place):
    domain = place.domain("vm1")
    stop(domain.pid)
    result = place.ballast("destroy", "--timeout=0.3", "vm1")
    check(result.returncode == 0 and "killed" in result.stdout, result)
    check(domain.wait(LIMIT_S) == -signal.SIGKILL)


def test_destroy_kills_nobody_else(place):
    """A lock whose number belongs to a process without the lock."""
    bystander = place.start("sleep", "1000")
    os.makedirs(place.folder("vm1"), 0o700)
    os.chmod(place.base, 0o755)
    with open(os.path.join(place.folder("vm1"), "lock"), "w", encoding="utf-8") as lock:
        lock.write(f"{bystander.pid}\n")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        check_failed(place.ballast("destroy", "--timeout", "0", "vm1"), 1, "not found")
    check(bystander.poll() is None, "the bystander was killed")


def test_leftovers(place):
    for command in (["ls"], ["stat", "vm1"], ["destroy", "vm1"]):
        domain = place.domain("vm1")
        domain.kill()
        domain.wait()
        check(sorted(os.listdir(place.folder("vm1"))) == ["control.sock", "lock"])
        result = place.ballast(*command)
        check(not os.path.exists(place.folder("vm1")), command, result)
        if command[0] == "destroy":
            check(result.returncode == 0 and "dead already" in result.stdout, result)
    # A folder without anything, and a new domain in place of a dead one.
    os.mkdir(place.folder("vm2"), 0o700)
    check(json.loads(place.ballast("ls", "--json").stdout) == [])
    check(not os.path.exists(place.folder("vm2")))
    place.domain("vm3").kill()
    place.processes[-1].wait()
    place.domain("vm3")


def test_foreign_files_stay(place):
    os.makedirs(place.folder("vm1"), 0o700)
    os.chmod(place.base, 0o755)
    precious = os.path.join(place.folder("vm1"), "precious")
    with open(precious, "w", encoding="utf-8"):
        pass
    target = place.file("target", "do not touch")
    os.symlink(target, os.path.join(place.folder("vm1"), "control.sock"))
    place.ballast("ls")
    check_failed(place.ballast("destroy", "vm1"), 1, "leftovers")
    check(os.path.exists(precious) and os.path.exists(target))
    # A link in the lock's or the folder's place is not followed.
    os.makedirs(place.folder("vm2"), 0o700)
    os.symlink(target, os.path.join(place.folder("vm2"), "lock"))
    os.symlink(place.root, place.folder("vm3"))
    place.ballast("ls")
    for name in ("vm2", "vm3"):
        script = place.file("script", "#!/bin/sh\nexit 0\n")
        result = place.ballast("run", "--target", "64M", "--name", name, script)
        if "userfaultfd" in result.stderr or "kernel" in result.stderr:
            raise Skip(result.stderr.strip())
        check_failed(result, REFUSED, name)
    check(open(target, encoding="utf-8").read() == "do not touch")


def run_fake(place, script, *words, name="vm1", env=None, **more):
    """`ballast run` with a shell script in QEMU's place."""
    path = place.file("fake-qemu", "#!/bin/sh\n" + script)
    process = place.start(BALLAST, "run", "--name", name, "--target", "64M", "--", path, *words,
                          env=env, **more)
    return path, process


def finish(process):
    output, errors = process.communicate(timeout=LIMIT_S)
    if process.returncode == REFUSED and ("userfaultfd" in errors or "kernel" in errors):
        raise Skip(errors.strip())
    return output, errors


BALLOON = ["-device", "virtio-balloon-pci,id=ballast-balloon,free-page-reporting=on"]
SHOW = 'printf "%s\\n" "$LD_PRELOAD" "$BALLAST_AGENT" "$$" "$0" "$@"\n'


def test_run_hands_over(place):
    path, process = run_fake(place, SHOW, "-m", "1G", "two  words", "")
    output, errors = finish(process)
    lines = output.split("\n")
    check(errors == "" and process.returncode == 0, process.returncode, errors)
    check(lines[0] == AGENT, lines)
    config = json.loads(lines[1])
    lock_fd = config.pop("lock_fd")
    check(config == {
        "name": "vm1",
        "directory": place.folder("vm1"),
        "target_bytes": 64 << 20,
        "max_bytes": 1 << 30,
        "maxmem_bytes": 0,
        "on_exhaustion": "crash",
        "reserve": True,
        "target_word": "--target",
        "balloon_sets_target": False,
        "program": os.path.realpath(path),
    }, config)
    check(isinstance(lock_fd, int) and lock_fd > 2, lock_fd)
    check(lines[2] == str(process.pid), "not the same process", lines)
    check(lines[3:] == [path, "-m", "1G", "two  words", "", *BALLOON, ""], lines)


def test_run_options(place):
    script = place.file("fake-qemu", "#!/bin/sh\n" + SHOW)
    table = [
        ([], ["-m", "1G"], {}, BALLOON),
        (["--no-balloon"], ["-m", "1G"], {}, []),
        ([], [], {}, []),
        ([], ["-device", "virtio-balloon-pci"], {}, []),
        (["--on-exhaustion", "pause"], [], {"on_exhaustion": "pause"}, []),
        (["--on-exhaustion=crash"], [], {"on_exhaustion": "crash"}, []),
        (["--no-reserve"], [], {"reserve": False}, []),
        (["--balloon-sets-target"], [], {"balloon_sets_target": True}, []),
    ]
    for options, words, expected, added in table:
        process = place.start(BALLAST, "run", "--target", "64M", *options, script, *words)
        lines = finish(process)[0].split("\n")
        config = json.loads(lines[1])
        expected = {"on_exhaustion": "crash", "reserve": True, **expected}
        check({key: config[key] for key in expected} == expected, options, config)
        check(lines[4:] == [*words, *added, ""], options, lines)


def test_run_keeps_the_preload(place):
    libc = "libc.so.6"
    _, process = run_fake(place, SHOW, env=dict(place.env, LD_PRELOAD=libc))
    lines = finish(process)[0].split("\n")
    check(lines[0] == AGENT + ":" + libc, lines)
    check(json.loads(lines[1])["preload"] == libc, lines)


def test_run_chooses_the_name(place):
    script = place.file("fake-qemu", "#!/bin/sh\n" + SHOW)
    for words, name in ((["-name", "guest=inner,debug-threads=on"], "inner"), ([], None)):
        process = place.start(BALLAST, "run", "--target", "64M", script, *words)
        config = json.loads(finish(process)[0].split("\n")[1])
        check(config["name"] == (name or f"vm-{process.pid}"), config)


def test_run_holds_the_lock(place):
    _, process = run_fake(place, "echo ready\nread line\nexit 7\n")
    line = process.stdout.readline()
    if line == "":
        finish(process)
    check(line == "ready\n", line)
    with open(os.path.join(place.folder("vm1"), "lock"), encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            raise AssertionError("the lock is free")
        except BlockingIOError:
            pass
        check(lock.read() == f"{process.pid}\n")
    # The same name again: refused, and the first is not disturbed.
    _, second = run_fake(place, "echo never\n")
    output, errors = second.communicate(timeout=LIMIT_S)
    check(second.returncode == REFUSED and output == "", second.returncode, output)
    check("'vm1' is taken" in errors and errors.count("\n") == 1, errors)
    check(os.path.exists(os.path.join(place.folder("vm1"), "lock")))
    process.stdin.write("go on\n")
    process.stdin.flush()
    process.communicate(timeout=LIMIT_S)
    check(process.returncode == 7, process.returncode)
    place.ballast("ls")
    check(not os.path.exists(place.folder("vm1")))


def test_one_of_many_gets_the_name(place):
    script = place.file("fake-qemu", "#!/bin/sh\necho ready\nread line\n")
    for _ in range(5):
        processes = [place.start(BALLAST, "run", "--name", "vm1", "--target", "64M", script)
                     for _ in range(4)]
        first = [p.stdout.readline() for p in processes]
        winners = [p for p, line in zip(processes, first) if line == "ready\n"]
        for process in processes:
            if process not in winners:
                _, errors = finish(process)
                check(process.returncode == REFUSED and "taken" in errors, errors)
        check(len(winners) == 1, first)
        winners[0].communicate("\n", timeout=LIMIT_S)


def test_run_passes_status_and_signals(place):
    for status in (0, 1, 77, 255):
        _, process = run_fake(place, f"exit {status}\n")
        finish(process)
        check(process.returncode == status, process.returncode)
    _, process = run_fake(place, "trap 'exit 33' TERM\necho ready\nwhile :; do read x; done\n")
    check(process.stdout.readline() == "ready\n" or finish(process))
    process.terminate()
    process.communicate(timeout=LIMIT_S)
    check(process.returncode == 33, process.returncode)
    _, process = run_fake(place, "echo ready\nread x\n")
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=LIMIT_S)
    check(process.returncode == -signal.SIGINT, process.returncode)


def test_run_leaves_nothing_when_exec_fails(place):
    script = place.file("bad", "#!/no/such/interpreter\n")
    result = place.ballast("run", "--target", "64M", "--name", "vm1", script)
    if "userfaultfd" in result.stderr or "kernel" in result.stderr:
        raise Skip(result.stderr.strip())
    check_failed(result, REFUSED, script)
    check(os.listdir(place.base) == [], os.listdir(place.base))


def test_programs_without_a_dynamic_linker(place):
    cc = shutil.which("cc")
    if cc is None:
        raise Skip("there is no compiler")
    source = place.file("x.c", "int main(void) { return 0; }\n")
    static = os.path.join(place.root, "static")
    dynamic = os.path.join(place.root, "dynamic")
    made = subprocess.run([cc, "-static", "-o", static, source], capture_output=True, check=False)
    if made.returncode != 0:
        raise Skip("nothing can be linked statically here")
    subprocess.run([cc, "-o", dynamic, source], check=True)
    check_failed(place.ballast("run", "--target", "64M", static), REFUSED, "statically linked")
    if os.geteuid() == 0:
        os.chown(dynamic, 1, 1)
        os.chmod(dynamic, 0o4755)
        check_failed(place.ballast("run", "--target", "64M", dynamic), REFUSED, "setuid")


def test_the_agent_must_be_there(place):
    script = place.file("fake-qemu", "#!/bin/sh\n" + SHOW)
    env = dict(place.env, BALLAST_AGENT_SO=os.path.join(place.root, "none.so"))
    result = place.ballast("run", "--target", "64M", script, env=env)
    if "userfaultfd" in result.stderr or "this kernel" in result.stderr:
        raise Skip(result.stderr.strip())
    check_failed(result, REFUSED, "none.so")
    spaced = os.path.join(place.root, "a b.so")
    shutil.copy(AGENT, spaced)
    env["BALLAST_AGENT_SO"] = spaced
    check_failed(place.ballast("run", "--target", "64M", script, env=env), REFUSED, "space")


def test_base_must_be_ours(place):
    os.mkdir(place.base)
    os.chmod(place.base, 0o777)
    script = place.file("fake-qemu", "#!/bin/sh\nexit 0\n")
    result = place.ballast("run", "--target", "64M", script)
    if "userfaultfd" in result.stderr or "this kernel" in result.stderr:
        raise Skip(result.stderr.strip())
    check_failed(result, REFUSED, place.base)
    check(os.listdir(place.base) == [])


def test_any_client_can_speak(place):
    """What docs/protocol.md promises to socat."""
    place.domain("vm1")
    client = socket.socket(socket.AF_UNIX)
    client.connect(os.path.join(place.folder("vm1"), "control.sock"))
    client.sendall(b'{"execute": "query-commands", "id": 5}\n{"execute": "none"}\n')
    client.shutdown(socket.SHUT_WR)
    received = b""
    while True:
        ready, _, _ = select.select([client], [], [], LIMIT_S)
        check(ready, "no answer")
        piece = client.recv(65536)
        if not piece:
            break
        received += piece
    greeting, commands, error = (json.loads(line) for line in received.splitlines())
    check(greeting["BALLAST"]["version"] == {"major": 1, "minor": 2}, greeting)
    check(greeting["BALLAST"]["name"] == "vm1", greeting)
    check(commands["id"] == 5, commands)
    check({"name": "query-domain"} in commands["return"]["commands"], commands)
    check(error["error"]["class"] == "CommandNotFound", error)


def run_all(functions):
    """Runs the tests among a module's functions; the exit status."""
    tests = [(n, f) for n, f in sorted(functions.items())
             if n.startswith("test_") and all(word in n for word in sys.argv[4:])]
    failed, skipped = [], []
    for name, function in tests:
        try:
            with Place() as place:
                function(place)
            print("ok      ", name)
        except Skip as why:
            skipped.append(name)
            print("skipped ", name, "-", why)
        except Exception:  # pylint: disable=broad-except
            failed.append(name)
            print("FAILED  ", name)
            traceback.print_exc(file=sys.stdout)
        sys.stdout.flush()
    print(f"{len(tests)} tests, {len(failed)} failed, {len(skipped)} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(run_all(globals()))
