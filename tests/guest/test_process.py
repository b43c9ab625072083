#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A QEMU under Ballast is a QEMU: its ways to start and end, its children, its neighbours."""

import json
import os
import pathlib
import signal
import socket

import lib

IDLE = ["-accel", "tcg", "-nodefaults", "-no-user-config", "-display", "none", "-S", "-qmp",
        "unix:@FOLDER@/qmp,server=on,wait=off"]


def start_idle(session, name=None, target="64M", maximum="512M", extra=()):
    """A QEMU that is up and whose guest does not run."""
    guest = session.start_qemu([*IDLE, "-m", maximum, *extra], target, name)
    guest.wait_up()
    return guest


def check_gone(session, guest):
    """Nothing of a domain is left."""
    lib.check(session.nothing_left(guest.name), f"the domain's folder is still there: "
              f"{guest.account()}")
    lib.check(not list(session.domain_pids()), "something still holds the domain's lock")


def test_version(session):
    """-version prints QEMU's version and ends with its status"""
    guest = session.start_qemu(["-version"], "64M")
    status = guest.wait(30)
    out = (guest.folder / "stdout").read_text()
    lib.check(status == 0 and out.startswith("QEMU emulator version"), f"{out} {guest.account()}")
    lib.check(guest.stderr == "", guest.stderr)
    check_gone(session, guest)


def test_qemu_fails(session):
    """QEMU's own error and status come through"""
    words = [*IDLE, "-m", "512M", "-device", "no-such-device"]
    plain = session.start_qemu(words)
    guest = session.start_qemu(words, "64M")
    lib.check(guest.wait(30) == plain.wait(30) != 0, guest.account())
    lib.check(guest.stderr == plain.stderr, f"{guest.stderr!r} and {plain.stderr!r}")
    check_gone(session, guest)


def test_guest_status(session):
    """a status that the guest chooses comes through"""
    sector = session.folder / "sector"
    code = b"\xb0\x10\xe6\xf4\xfa\xf4\xeb\xfd"  # mov al, 16; out 0xf4, al; cli; hlt
    sector.write_bytes(code.ljust(510, b"\0") + b"\x55\xaa")
    guest = session.start_qemu(["-accel", "tcg", "-m", "512M", "-nodefaults", "-display", "none",
                                "-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-drive",
                                f"file={sector},format=raw,if=floppy,readonly=on"], "64M")
    lib.check(guest.wait(60) == 33, guest.account())
    lib.check(guest.stderr == "", guest.stderr)
    check_gone(session, guest)


def test_monitor_quit(session):
    """the monitor's quit ends it with status 0"""
    guest = start_idle(session)
    guest.qmp().call("quit")
    lib.check(guest.wait(30) == 0, guest.account())
    check_gone(session, guest)


def test_signals(session):
    """signals end it as they end a plain QEMU"""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        plain = start_idle(session, target=None)
        guest = start_idle(session)
        for process in (plain.process, guest.process):
            process.send_signal(number)
        lib.check(guest.wait(30) == plain.wait(30), f"{number.name}: {guest.account()}, and "
                  f"{plain.account()}")
        check_gone(session, guest)


def test_children(session):
    """QEMU's children get none of Ballast's environment and descriptors"""
    guest = start_idle(session)
    environment = pathlib.Path(f"/proc/{guest.stat()['pid']}/environ").read_bytes()
    target = guest.folder / "child"
    qmp = guest.qmp()
    qmp.call("migrate", uri=f"exec:env > {target}; readlink /proc/self/fd/* > {target}.fds; "
             f"ls -l /proc/$$/fd >> {target}.fds; cat > /dev/null")
    lib.until(lambda: qmp.call("query-migrate").get("status") in ("completed", "failed"), 60,
              "the migration should end")
    lib.check(qmp.call("query-migrate")["status"] == "completed", qmp.call("query-migrate"))
    variables = target.read_text()
    lib.check("PATH=" in variables, f"the child has told nothing: {variables!r}")
    for word in ("LD_PRELOAD", "BALLAST_AGENT", "ballast-agent"):
        lib.check(word not in variables, f"the child has {word}: {variables}")
    descriptors = pathlib.Path(f"{target}.fds").read_text()
    lib.check(str(session.runtime) not in descriptors, f"the child has our files: {descriptors}")
    lib.check("userfaultfd" not in descriptors, f"the child has our userfaultfd: {descriptors}")
    print(f"  (QEMU's own initial environment had {len(environment)} bytes)")
    state = guest.stat()
    lib.check(state["total_pages"] == state["target_pages"] == lib.size_to_pages("64M"), state)
    qmp.call("quit")
    lib.check(guest.wait(30) == 0, guest.account())


def test_preload_is_kept(session):
    """what was preloaded before still is, for QEMU and its children"""
    library = next(path for path in pathlib.Path("/").glob("lib*/x86_64-linux-gnu/libm.so.6"))
    session.environment["LD_PRELOAD"] = str(library)
    guest = start_idle(session)
    target = guest.folder / "child"
    qmp = guest.qmp()
    qmp.call("migrate", uri=f"exec:env > {target}; cat > /dev/null")
    lib.until(lambda: qmp.call("query-migrate").get("status") in ("completed", "failed"), 60,
              "the migration should end")
    lib.check(f"LD_PRELOAD={library}\n" in target.read_text(), target.read_text())
    qmp.call("quit")
    lib.check(guest.wait(30) == 0, guest.account())


def test_daemonize(session):
    """-daemonize puts it into the background, where it lives on"""
    guest = session.start_qemu([*IDLE, "-m", "512M", "-daemonize", "-pidfile", "@FOLDER@/pid"],
                               "64M")
    lib.check(guest.wait(30) == 0, guest.account())
    state = guest.stat()
    lib.check(state is not None, "the domain should answer")
    pid = int((guest.folder / "pid").read_text())
    lib.check(state["pid"] == pid != guest.process.pid, f"{state['pid']}, QEMU says {pid}")
    lib.check(state["total_pages"] == lib.size_to_pages("64M"), state)
    observer = lib.Observer(session, guest.name)
    lib.check(observer.first["sum_pages"] == lib.size_to_pages("64M"), observer.first)
    done = session.ballast("destroy", guest.name)
    lib.check(done.returncode == 0, done.stderr)
    lib.until(lambda: not os.path.exists(f"/proc/{pid}"), 10, "the process should end")
    check_gone(session, guest)


def test_neighbours(session):
    """two domains at once, and no two of one name"""
    first, second = start_idle(session, "one"), start_idle(session, "two", "32M")
    listed = json.loads(session.ballast("ls", "--json").stdout)
    domains = listed if isinstance(listed, list) else listed["domains"]
    lib.check([domain["name"] for domain in domains] == ["one", "two"], listed)
    lib.check([domain["target_pages"] for domain in domains]
              == [lib.size_to_pages("64M"), lib.size_to_pages("32M")], listed)
    third = session.start_qemu([*IDLE, "-m", "512M"], "64M", "one")
    status = third.wait(30)
    lib.check(status in (lib.EXIT_REFUSED, lib.EXIT_USAGE, 1), third.account())
    lib.check(len(third.stderr.splitlines()) == 1 and "one" in third.stderr, third.stderr)
    lib.check(first.alive() and first.stat()["state"] == "running", first.account())
    first.qmp().call("quit")
    lib.check(first.wait(30) == 0, first.account())
    lib.check(second.stat()["total_pages"] == lib.size_to_pages("32M"), second.account())
    second.qmp().call("quit")
    lib.check(second.wait(30) == 0, second.account())
    check_gone(session, second)


def test_destroy(session):
    """ballast destroy ends a guest that runs"""
    guest = session.start_guest("1G", "128M", append="ballast.scenario=hold")
    guest.wait_up()
    lib.until(lambda: "Linux version" in guest.serial, 60, "the kernel should start")
    done = session.ballast("destroy", guest.name)
    lib.check(done.returncode == 0, done.stderr)
    lib.check(guest.wait(10) == lib.EXIT_DESTROYED, guest.account())
    check_gone(session, guest)
    again = session.ballast("destroy", guest.name)
    lib.check(again.returncode != 0 and guest.name in again.stderr, again.stderr)


def test_killed(session):
    """what a killed domain leaves is cleaned up, and its name is free"""
    guest = start_idle(session, "victim")
    guest.process.kill()
    lib.check(guest.wait(10) == -signal.SIGKILL, guest.account())
    lib.check((session.runtime / "victim").exists(), "the test tests nothing: no leftovers")
    done = session.ballast("ls", "--json")
    lib.check(done.returncode == 0 and "victim" not in done.stdout, done.stdout)
    lib.check(session.nothing_left("victim"), "ls should have cleaned up")
    guest = start_idle(session, "victim")
    guest.process.kill()
    guest.wait(10)
    guest = start_idle(session, "victim")
    guest.qmp().call("quit")
    lib.check(guest.wait(30) == 0, guest.account())
    check_gone(session, guest)


def test_any_client(session):
    """any program can speak the control protocol"""
    guest = start_idle(session)
    with socket.socket(socket.AF_UNIX) as plain:
        path = session.runtime / guest.name / "control.sock"
        lib.check(path.stat().st_mode & 0o777 == 0o600, oct(path.stat().st_mode))
        lib.check(path.parent.stat().st_mode & 0o777 == 0o700, oct(path.parent.stat().st_mode))
        plain.settimeout(10)
        plain.connect(str(path))
        with plain.makefile("rw") as stream:
            greeting = json.loads(stream.readline())["BALLAST"]
            lib.check(greeting["name"] == guest.name and greeting["version"]["major"] == 1,
                      greeting)
            stream.write('{"execute": "query-domain", "id": [7]}\n')
            stream.flush()
            reply = json.loads(stream.readline())
    lib.check(reply["id"] == [7], reply)
    state = reply["return"]
    lib.check(state["populated_pages"] + state["pod_entries_pages"] + state["out_pages"]
              == state["max_pages"] == lib.size_to_pages("512M"), state)
    lib.check(state["populated_pages"] + state["cache_pages"] == state["total_pages"], state)
    guest.qmp().call("quit")
    lib.check(guest.wait(30) == 0, guest.account())


def test_record_and_plot(session):
    """record follows a boot to its end, its lines hold the equations, plot draws it"""
    guest = session.start_guest("1G", "128M", held=True)
    guest.wait_up()
    trace = session.folder / "trace"
    recorder = session.start([lib.build_dir() / "tools/ballast", "record", guest.name, "-o", trace,
                              "--interval", "50", "--map-interval", "100"])
    lib.until(lambda: trace.exists() and trace.read_text().count("\n") > 2, 10,
              "the recorder should start")
    guest.qmp().call("cont")
    lib.check(guest.wait() == 0, guest.account())
    lib.check(recorder.wait(10) == 0, "the recorder should end well with the domain")
    header, *records = [json.loads(line) for line in trace.read_text().splitlines()]
    lib.check(header["ballast-trace"] == 2 and header["name"] == guest.name, header)
    samples = [record for record in records if "kind" not in record]
    maps = [record for record in records if record.get("kind") == "map"]
    events = [record for record in records if record.get("kind") == "event"]
    lib.check(len(maps) > 3 and all(m["superpages"] == 512 for m in maps), maps)
    lib.check("H" not in maps[0]["map"] and "H" in maps[-1]["map"], (maps[0], maps[-1]))
    lib.check(events[0]["event"] == "BUILT" and events[0]["t_ns"] < 0, events)
    lib.check(records[-1]["kind"] == "end" and records[-1]["end"] == "gone"
              and records[-1].get("exit_status", 0) == 0, records[-1])
    lib.check(len(samples) > 20, f"only {len(samples)} samples")
    for state in samples:
        lib.check(state["populated_pages"] + state["pod_entries_pages"] + state["out_pages"]
                  == state["max_pages"], state)
        lib.check(state["populated_pages"] + state["cache_pages"] == state["total_pages"]
                  == state["target_pages"], state)
    lib.check(samples[0]["faults"] < samples[-1]["faults"], "no fault was ever served")
    for name, magic in (("p.html", b"<!DOCTYPE html>"), ("p.svg", b"<?xml"),
                        ("p.png", b"\x89PNG")):
        done = session.ballast("plot", trace, "-o", session.folder / name)
        if "built without cairo" in done.stderr:
            raise lib.Skip("this build of ballast has no plot")
        lib.check(done.returncode == 0, done.stderr)
        lib.check((session.folder / name).read_bytes().startswith(magic), name)


lib.run_tests(test_version, test_qemu_fails, test_guest_status, test_monitor_quit, test_signals,
              test_children, test_preload_is_kept, test_daemonize, test_neighbours, test_destroy,
              test_killed, test_any_client, test_record_and_plot)
