#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Live migration between two libvirts on two hosts: each has a place of its own for all that libvirt
and Ballast keep on a host, and they share storage and network.

The guest is QEMU's firmware, which finds no disk and stays there: it runs, and has given nothing back.
What a guest's memory holds after a migration, tests/guest/test_migration.py looks at."""

import fcntl
import socket
import struct
import subprocess

import private
import lib  # found by what private adds to the path  # pylint: disable=wrong-import-order
from private import GUESTS, check, must, run, seconds, until

SHARED = GUESTS / "other"  # where the other host's daemon listens
URI = f"qemu+unix:///system?socket={SHARED}/libvirt-sock"
HOST_UUID = "11111111-2222-4333-8444-555555555555"
SIOCSIFFLAGS, IFF_UP, IFF_RUNNING = 0x8914, 0x1, 0x40


def start_loopback():
    """The network of our namespace begins without any."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP | IFF_RUNNING))


class OtherHost:
    """A second libvirtd, with mounts of its own. `meminfo`: what its kernel says of its memory."""

    def __init__(self, meminfo=None):
        SHARED.mkdir(exist_ok=True)
        config = SHARED / "libvirtd.conf"
        config.write_text(f'auth_unix_ro = "none"\nauth_unix_rw = "none"\nunix_sock_group = "root"\n'
                          f'unix_sock_dir = "{SHARED}"\nhost_uuid = "{HOST_UUID}"\n')
        places = ["/run/libvirt", "/run/ballast", "/var/lib/libvirt", "/var/log/libvirt",
                  "/var/cache/libvirt"]
        words = " && ".join(f"mkdir -p {place} && mount -t tmpfs -o mode=755 tmpfs {place}"
                            for place in places)
        if meminfo:
            (SHARED / "meminfo").write_text(meminfo)
            words += f" && mount --bind {SHARED}/meminfo /proc/meminfo"
        words += f" && exec /usr/sbin/libvirtd --config {config} --pid-file {SHARED}/pid"
        with open(SHARED / "log", "wb") as log:
            self.process = subprocess.Popen(["unshare", "--mount", "sh", "-c", words], stdout=log,
                                            stderr=log, stdin=subprocess.DEVNULL)

    def __enter__(self):
        def answers():
            check(self.process.poll() is None, (SHARED / "log").read_text())
            return run("virsh", "-c", URI, "uri").returncode == 0
        until(answers, 60, "the other libvirtd should answer", 0.1)
        return self

    def __exit__(self, *_):
        for name in run("virsh", "-c", URI, "list", "--name").stdout.split():
            run("virsh", "-c", URI, "destroy", name)
        self.process.terminate()
        self.process.wait(seconds(30))

    def run(self, *words):
        """Runs a program there."""
        return run("nsenter", "--mount", "--root", "--target", self.process.pid, "--", *words)


def migrate(name, *words):
    """virsh migrate --live to the other host."""
    return run("virsh", "migrate", "--live", *words, name, URI, "--migrateuri",
               "tcp://127.0.0.1:49200", limit_s=120)


def start_firmware(session, target):
    """A domain that runs, and whose guest is the firmware."""
    domain = session.define("web", "512M", target, kernel=False)
    domain.virsh("start")
    until(lambda: domain.stat()["faults"] > 0, 60, "the firmware should run")
    return domain


def test_there(session):
    """a pre-ballooned guest moves while it runs; each end owns its target, and nothing is left here"""
    start_loopback()
    domain = start_firmware(session, "96M")
    domain.virsh("setmem", "128M", "--live")
    domain.check_total("128M")
    observer = lib.Observer(session, "web")
    with OtherHost() as there:
        done = migrate("web", "--verbose")
        check(done.returncode == 0, f"{done}")
        report = observer.report()
        check(report["good"] and report["sum_max_pages"] == lib.size_to_pages("128M"), report)
        check(session.ballast("ls", "--names").stdout == "", "it should be gone from here")
        check(domain.state() == "shut off", domain.state())
        ballast = lib.build_dir() / "tools/ballast"
        stat = there.run(ballast, "stat", "--json", "web")
        check(stat.returncode == 0 and f'"target_pages": {lib.size_to_pages("128M")},' in stat.stdout
              and f'"total_pages": {lib.size_to_pages("128M")},' in stat.stdout, f"{stat}")
        check(must("virsh", "-c", URI, "domstate", "web").strip() == "running", "it should run there")
        check("131072 KiB" in must("virsh", "-c", URI, "dominfo", "web"), "its dominfo there")


def test_no_memory_there(session):
    """a host that lacks the memory refuses it, and it runs on here"""
    start_loopback()
    domain = start_firmware(session, "128M")
    faked = "MemTotal: 4194304 kB\nMemFree: 65536 kB\nMemAvailable: 65536 kB\n"
    with OtherHost(faked):
        pid, log = domain.pid(), domain.log
        done = migrate("web")
        print(f"  {done.stderr.strip()}")
        check(done.returncode != 0 and "the host cannot give the target" in done.stderr, f"{done}")
        check(domain.state() == "running" and domain.pid() == pid, domain.account())
        check("initiating migration" not in domain.log.removeprefix(log),
              f"it should not even have begun: {domain.log.removeprefix(log)}")
        check(run("virsh", "-c", URI, "list", "--name").stdout.strip() == "", "nothing there")
    domain.check_total("128M")


private.run_tests(test_there, test_no_memory_there)
