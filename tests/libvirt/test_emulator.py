#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The emulator that libvirt starts: it is QEMU for whoever does not ask for more, and the domain that
does owns its target from before its first instruction."""

import json
import os
import pathlib
import re
import shutil
import subprocess

import private
import lib  # found by what private adds to the path  # pylint: disable=wrong-import-order
from private import BASE, check

QEMU = shutil.which(lib.QEMU)


def capabilities(emulator):
    """What libvirt found out about an emulator, without where it is."""
    done = private.must("virsh", "domcapabilities", "--emulatorbin", emulator, "--virttype", "qemu")
    return done.replace(str(emulator), "EMULATOR")


def process_words(pid, name):
    """The words of /proc/PID/NAME."""
    return pathlib.Path(f"/proc/{pid}/{name}").read_bytes().decode().strip("\0").split("\0")


def requests():
    """What our hook has left."""
    folder = BASE / ".libvirt"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_capabilities(session):
    """libvirt finds the same capabilities as of QEMU itself"""
    check(capabilities(session.folder / lib.QEMU) == capabilities(QEMU), "they differ")


def test_is_qemu(session):
    """without a domain it becomes QEMU: the same process, the same output and status, also where \
there is no hook"""
    emulator = session.folder / lib.QEMU
    for words in (["--version"], ["-machine", "help"], ["-machine", "nonsense"]):
        ours, plain = private.run(emulator, *words), private.run(QEMU, *words)
        check((ours.returncode, ours.stdout) == (plain.returncode, plain.stdout), f"{ours}")
    process = session.start([emulator, "-S", "-machine", "none", "-nodefaults", "-display", "none"])
    private.until(lambda: os.path.samefile(f"/proc/{process.pid}/exe", QEMU), 20,
                  "the process should become QEMU")
    missing = private.run(session.folder / "qemu-system-s390x", "--version") \
        if not shutil.which("qemu-system-s390x") else None
    if missing:
        check(missing.returncode == lib.EXIT_REFUSED and "install QEMU" in missing.stderr, missing)


def handed_over(domain):
    """What the emulator told the agent, as the process was started with it."""
    words = dict(word.split("=", 1) for word in process_words(domain.pid(), "environ"))
    check(words["LD_PRELOAD"] == str(domain.session.folder / "ballast-agent.so"), words)
    return json.loads(words["BALLAST_AGENT"])


def test_domain(session):
    """a domain with less <currentMemory> than <memory> owns just that, before its guest runs"""
    domain = session.define("web", "1G", "128M")
    domain.virsh("start", "--paused")
    domain.check_total("128M")
    check(domain.stat()["max_pages"] == domain.max_pages, domain.stat())
    pid = domain.pid()
    check(os.path.samefile(f"/proc/{pid}/exe", QEMU), "it should be QEMU itself")
    check("on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
          in process_words(pid, "cmdline"), "libvirt's sandbox should be on")
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    check("\nSeccomp:\t2\n" in status and f"\nUid:\t{private.QEMU_UID}\t" in status, status)
    check(handed_over(domain)["on_exhaustion"] == "crash" and handed_over(domain)["reserve"],
          handed_over(domain))
    # Root's ballast knows it by libvirt's name.
    check(session.ballast("ls", "--names").stdout.split() == ["web"], "ls")
    check('"web"' in session.ballast("top", "--json", "--iterations", "1").stdout, "top")
    check(session.ballast("set", "web", "160M").returncode == 0, "set")
    domain.check_total("160M")
    domain.virsh("destroy")
    check(requests() == [] and not (BASE / "web").exists(), f"{requests()}: something is left")


def test_destroy(session):
    """ballast destroy ends it, and libvirt sees it go"""
    domain = session.define("web", "256M", "64M")
    domain.virsh("start", "--paused")
    done = session.ballast("destroy", "web")
    check(done.returncode == 0, done)
    domain.wait_gone()
    check("was destroyed on request" in domain.log, domain.log)
    private.until(lambda: requests() == [] and not (BASE / "web").exists(), 20, "it should be gone")


def test_does_not_ask(session):
    """a domain whose sizes are equal runs as without us: not a word of ours in its process"""
    domain = session.define("plain", "256M", "256M")
    domain.virsh("start", "--paused")
    pid = domain.pid()
    check(session.ballast("ls", "--names").stdout == "", "it should be no domain of ours")
    environment, words = process_words(pid, "environ"), process_words(pid, "cmdline")
    maps = pathlib.Path(f"/proc/{pid}/maps").read_text()
    check("ballast" not in maps and not any("LD_PRELOAD" in word or "BALLAST" in word
                                            for word in environment), f"{environment}")
    domain.virsh("destroy")
    check(requests() == [], f"{requests()}")
    # The same domain with QEMU itself: the same command line, but for the places that libvirt numbers.
    domain.virsh("undefine")
    again = session.define("plain", "256M", "256M", emulator=QEMU)
    again.virsh("start", "--paused")

    def comparable(line):
        return [word for word in line if not re.search(r"/domain-|fd=|fdset|set=", word) and
                not private.is_uuid(word)]
    theirs = process_words(again.pid(), "cmdline")
    check(comparable(words) == comparable(theirs), f"{words} is not {theirs}")


def test_metadata(session):
    """metadata: PoD with equal sizes, none with unequal ones, the policy; nonsense does not start"""
    def start(name, target, attributes):
        domain = session.define(name, "256M", target,
                                metadata=f"<b:pod xmlns:b='urn:ballast:libvirt:1' {attributes}/>")
        domain.virsh("start", "--paused")
        return domain
    start("full", "256M", "enabled='yes'").check_total("256M")
    check(start("none", "128M", "enabled='no'").stat() is None, "it should be no domain of ours")
    patient = handed_over(start("patient", "128M", "on-exhaustion='pause' reserve='no'"))
    check(patient["on_exhaustion"] == "pause" and patient["reserve"] is False, patient)
    try:
        start("wrong", "128M", "on-exhaustion='wait'")
    except lib.Failed as why:
        check("on-exhaustion is 'wait', and must be pause or crash" in str(why), why)
    else:
        raise lib.Failed("metadata that makes no sense should keep it from starting")


def test_refused(session):
    """what cannot be had is said by virsh start, and leaves nothing"""
    meminfo = pathlib.Path("/proc/meminfo").read_text()
    total = int(meminfo.split("MemTotal:")[1].split()[0]) // 1024 // 1024
    session.define("huge", f"{total + 64}G", f"{total + 32}G")
    said = session.refused("start", "huge")
    check("the host cannot give the target" in said and "<currentMemory>" in said, said)
    check(requests() == [] and not (BASE / "huge").exists(), f"{requests()}")
    # A name that is taken by a domain that libvirt does not know.
    process = session.start([lib.build_dir() / "tools/ballast", "run", "--name", "taken", "--target",
                             "32M", "--", QEMU, "-m", "256M", "-S", "-nodefaults", "-display",
                             "none"], stderr=subprocess.DEVNULL)
    private.until(lambda: session.ballast("stat", "taken").returncode == 0, 20, "it should run")
    session.define("taken", "256M", "128M")
    said = session.refused("start", "taken")
    check("the name 'taken' is taken" in said, said)
    check(process.poll() is None and session.ballast("stat", "taken").returncode == 0,
          "the other one should live")


def test_names(session):
    """a name that is none for us: the UUID stands for it"""
    domain = session.define("web server", "256M", "64M")
    domain.virsh("start", "--paused")
    uuid = domain.virsh("domuuid").strip()
    check(session.ballast("ls", "--names").stdout.split() == [uuid], "ls")


def test_without_hook(session):
    """if libvirt does not run our hook, no domain starts that might have asked"""
    hook = pathlib.Path("/etc/libvirt/hooks/qemu.d/ballast")
    text = hook.read_text()
    session.define("web", "256M", "128M")
    try:
        hook.write_text("#!/bin/sh\n")
        said = session.refused("start", "web")
    finally:
        hook.write_text(text)
    check("hook" in said and "restart libvirtd" in said, said)


def test_without_device(session):
    """without /dev/userfaultfd in QEMU's /dev, or the right to open it, it is said what to do"""
    session.define("web", "256M", "128M")
    others = [device for device in private.DEVICES if device != str(private.DEVICE)]
    try:
        private.configure(others)
        private.must("umount", private.DEVICE)  # what is mounted in /dev libvirt 11 lets QEMU have
        session.restart_daemon()
        said = session.refused("start", "web")
        check("cgroup_device_acl" in said, said)
        private.configure(private.DEVICES)
        private.must("mount", "--bind", private.NODE, private.DEVICE)
        session.restart_daemon()
        os.chmod(private.NODE, 0o600)
        said = session.refused("start", "web")
        check(f"QEMU's user, {private.QEMU_UID}, may not open" in said, said)
    finally:
        os.chmod(private.NODE, 0o660)
    # As doctor says.
    done = session.ballast("doctor")
    for text in ("libvirt lets QEMU have /dev/userfaultfd", "libvirt finds Ballast's hook"):
        check(text in done.stdout, done.stdout)


private.run_tests(test_capabilities, test_is_qemu, test_domain, test_destroy, test_does_not_ask,
                  test_metadata, test_refused, test_names, test_without_hook, test_without_device)
