#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""contrib/proxmox/kvm, with command lines as Proxmox VE writes them. There is no Proxmox VE here: the
words are those of qemu-server 9.2.6, by its own test `simple-balloon-free-page-reporting`
(src/test/cfg2cmd in https://github.com/proxmox/qemu-server) for a VM with `kvm: 0`, and what
vm_start_nolock in its QemuServer.pm then says on the monitor. Other than there:

  - all files are in a folder of the test's, and the disk is raw and has aio=threads, not io_uring;
  - the network is QEMU's own, for there is no bridge; there are no splash screen and no -iscsi;
  - a kernel and an initramfs of ours are given by `args:`, and a serial port to a file.

The program that stands for Proxmox VE's QEMU is Debian's, without the two things that only theirs
knows: the option -id, and machine types that end in +pve0."""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import lib
import pattern

VMID = "8006"
MAXIMUM, TARGET = "768M", "192M"
# QEMU as upstream and Debian have it, in the place of Proxmox VE's.
THEIR_QEMU = f"""#!/bin/bash
words=()
while [ $# -gt 0 ]; do
    case $1 in
    -id) shift ;;
    *) words+=("${{1/+pve0/}}") ;;
    esac
    shift
done
exec {lib.QEMU} "${{words[@]}}"
"""
CONFIG = """#a web server
args: -kernel ...
balloon: 192
kvm: 0
memory: 768
name: simple
shares: 0
tags: test;ballast

[snapshot]
balloon: 64
tags: nothing
"""


class Host:
    """What a host with Proxmox VE has: our wrapper as `kvm`, configurations, sockets."""

    def __init__(self, session, folder):
        self.session = session
        self.folder = pathlib.Path(folder)
        self.runtime = self.folder / "run"
        self.runtime.mkdir()
        self.etc = self.folder / "pve"
        (self.etc / "qemu-server").mkdir(parents=True)
        self.config = self.etc / "qemu-server" / f"{VMID}.conf"
        self.config.write_text(CONFIG)
        qemu = self.folder / lib.QEMU
        qemu.write_text(THEIR_QEMU)
        qemu.chmod(0o755)
        self.kvm = self.folder / "kvm"
        text = (lib.SOURCE / "contrib/proxmox/kvm.in").read_text()
        self.kvm.write_text(text.replace("@bindir@", str(lib.build_dir() / "tools")))
        self.kvm.chmod(0o755)
        with open(self.folder / "disk.raw", "wb") as disk:
            disk.truncate(8 << 20)
        self.environment = dict(session.environment, BALLAST_RUNTIME_DIR=str(self.runtime),
                                BALLAST_PVE_DIR=str(self.etc), BALLAST_PVE_QEMU=str(qemu))

    def words(self, memory=("-m", "768"), state=(), append="ballast.scenario=pattern ballast.size=40"):
        """What qemu-server starts."""
        kit, folder = lib.guest_kit(), self.folder
        return [
            "-id", VMID,
            "-name", "simple,debug-threads=on",
            "-no-shutdown",
            "-chardev", f"socket,id=qmp,path={folder}/{VMID}.qmp,server=on,wait=off",
            "-mon", "chardev=qmp,mode=control",
            "-chardev", f"socket,id=qmp-event,path={folder}/qmeventd.sock,reconnect=5",
            "-mon", "chardev=qmp-event,mode=control",
            "-pidfile", f"{folder}/{VMID}.pid",
            "-daemonize",
            "-smbios", "type=1,uuid=7b10d7af-b932-4c66-b2c3-3996152ec465",
            "-smp", "1,sockets=1,cores=1,maxcpus=1",
            "-nodefaults",
            "-boot", "menu=on,strict=on,reboot-timeout=1000",
            "-vnc", f"unix:{folder}/{VMID}.vnc,password=on",
            "-cpu", "qemu64",
            *memory,
            "-device", "pci-bridge,id=pci.1,chassis_nr=1,bus=pci.0,addr=0x1e",
            "-device", "pci-bridge,id=pci.2,chassis_nr=2,bus=pci.0,addr=0x1f",
            "-device", "vmgenid,guid=c773c261-d800-4348-1010-1010add53cf8",
            "-device", "piix3-usb-uhci,id=uhci,bus=pci.0,addr=0x1.0x2",
            "-device", "usb-tablet,id=tablet,bus=uhci.0,port=1",
            "-device", "VGA,id=vga,bus=pci.0,addr=0x2",
            "-device", "virtio-balloon-pci,id=balloon0,bus=pci.0,addr=0x3,free-page-reporting=on",
            "-drive", "if=none,id=drive-ide2,media=cdrom",
            "-device", "ide-cd,bus=ide.1,unit=0,drive=drive-ide2,id=ide2,bootindex=200",
            "-device", "virtio-scsi-pci,id=scsihw0,bus=pci.0,addr=0x5",
            "-drive", f"file={folder}/disk.raw,if=none,id=drive-scsi0,discard=on,format=raw,"
                      "cache=none,aio=threads,detect-zeroes=unmap",
            "-device", "scsi-hd,bus=scsihw0.0,channel=0,scsi-id=0,lun=0,drive=drive-scsi0,id=scsi0,"
                       "bootindex=100",
            "-netdev", "type=user,id=net0",
            "-device", "virtio-net-pci,mac=A2:C0:43:77:08:A0,netdev=net0,bus=pci.0,addr=0x12,id=net0,"
                       "bootindex=300",
            "-machine", "accel=tcg,type=pc-i440fx-6.2+pve0",
            *state,
            "-kernel", kit["kernel"], "-initrd", kit["initramfs"],
            "-append", f"console=ttyS0 panic=-1 {append}", "-serial", f"file:{folder}/serial",
        ]

    def start(self, words, **environment):
        """Starts it as qemu-server does, and waits until that has ended: QEMU goes into the
        background. Returns its status and what it said on standard error."""
        with open(self.folder / "stderr", "wb") as stderr:
            process = self.session.start([self.kvm, *words], stderr=stderr,
                                         env=dict(self.environment, **environment), umask=0o077)
            status = process.wait(lib.seconds(60))
        return status, (self.folder / "stderr").read_text()

    def guest(self):
        """The guest as the other tests know one."""
        status, said = self.start(self.words())
        lib.check(status == 0 and not said, f"kvm ended with {status}: {said}")
        return Daemon(self)

    def pid(self):
        """By qemu-server's pid file."""
        return int((self.folder / f"{VMID}.pid").read_text())


class Daemon(lib.Guest):
    """A guest whose QEMU is in the background."""

    def __init__(self, host):
        super().__init__(host.session, VMID, None, host.folder, TARGET)
        self.host = host
        self.pid = host.pid()  # QEMU removes its pid file when it ends

    def alive(self):
        return os.path.exists(f"/proc/{self.pid}")

    def account(self):
        return f"{self.name}: stderr {self.stderr!r}, console ends in {self.serial[-400:]!r}"

    def qmp(self):
        return lib.Qmp(self.folder / f"{VMID}.qmp")

    def wait_gone(self):
        """Until the process has ended, and nothing of the domain is left."""
        lib.until(lambda: not self.alive(), 30, "QEMU should end")
        lib.check(not (self.host.runtime / VMID).exists(), "the domain's folder is still there")


def on_a_host(test):
    """A test on a host of its own, which is gone afterwards with all that runs there."""
    def run(session):
        with tempfile.TemporaryDirectory(prefix="bl-pve-", dir="/var/tmp") as folder:
            session.runtime = pathlib.Path(folder) / "run"
            session.environment["BALLAST_RUNTIME_DIR"] = str(session.runtime)
            try:
                test(Host(session, folder))
            finally:
                for path in pathlib.Path(folder).glob("**/*.pid"):
                    subprocess.run(["kill", "-KILL", path.read_text().strip()], check=False,
                                   capture_output=True)
    run.__doc__ = test.__doc__
    return run


def looks_like_theirs(pid, pidfile):
    """What qemu-server (parse_cmdline and instance_running_locally in Helpers.pm) and qmeventd
    demand of a process before they believe that it is the VM."""
    words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    return (re.search(r"kvm$|(?:^|/)qemu-[^/]+$", words[0]) is not None and
            words[words.index("-pidfile") + 1] == str(pidfile))


def test_life(host):
    """a VM with the tag starts within its minimum memory, grows, shrinks, migrates and ends"""
    guest = host.guest()
    stat = guest.stat()
    lib.check(stat["pid"] == host.pid(), f"{stat['pid']}, the pid file says {host.pid()}")
    lib.check(looks_like_theirs(host.pid(), host.folder / f"{VMID}.pid"), "not a VM of theirs")
    lib.check(stat["max_pages"] == lib.size_to_pages(MAXIMUM), stat)
    lib.check(stat["target_pages"] == stat["total_pages"] == lib.size_to_pages(TARGET), stat)
    observer = lib.Observer(host.session, VMID, (TARGET, "256M"))
    # After the start qemu-server asks the balloon for the minimum memory, and for statistics.
    qmp = guest.qmp()
    qmp.call("balloon", value=192 << 20)
    qmp.call("qom-set", path="machine/peripheral/balloon0",
             property="guest-stats-polling-interval", value=2)
    pattern.wait_rounds(guest, 1)
    lib.until(lambda: pattern.settled(guest.stat()), 100, "the balloon should fill", 0.2)
    lib.check(qmp.call("query-balloon")["actual"] == 192 << 20, "what the balloon says")
    # `qm set --balloon`, and pvestatd, ask for more in the same way.
    for size in ("256M", TARGET):
        qmp.call("balloon", value=lib.size_to_pages(size) * lib.PAGE)
        lib.check(guest.stat()["target_pages"] == lib.size_to_pages(size), guest.stat())
        lib.until(lambda: pattern.settled(guest.stat()), 100, f"it should settle at {size}", 0.2)
    pattern.wait_rounds(guest, 1)
    report = observer.stop()
    print("  " + lib.describe_report(report))
    pattern.check_good(report)
    qmp.close()
    migrate(host, guest)


def migrate(host, guest):
    """Moves it to a host where its configuration is not yet, and stops it there."""
    there = host.folder / "there"
    there.mkdir()
    other = Host(host.session, there)
    source_node = other.etc / "nodes/here/qemu-server"
    source_node.mkdir(parents=True)
    shutil.move(other.config, source_node)
    status, said = other.start(other.words(state=["-incoming", f"unix:{there}/{VMID}.migrate", "-S"]),
                               PVE_MIGRATED_FROM="here")
    lib.check(status == 0, f"kvm ended with {status}: {said}")
    qmp, arrived = guest.qmp(), Daemon(other)
    # QEMU 7.2 under TCG may lose writes of a guest that runs meanwhile (docs/testing.md).
    qmp.call("stop")
    qmp.call("migrate-set-capabilities", capabilities=[
        {"capability": "auto-converge", "state": True}, {"capability": "xbzrle", "state": True}])
    qmp.call("migrate", uri=f"unix:{there}/{VMID}.migrate")
    lib.until(lambda: qmp.call("query-migrate").get("status") in ("completed", "failed"), 60,
              "the migration should end")
    lib.check(qmp.call("query-migrate")["status"] == "completed", qmp.call("query-migrate"))
    qmp.call("quit")
    guest.wait_gone()
    arrived.qmp().call("cont")
    pattern.wait_rounds(arrived, 1)
    arrived.qmp().call("quit")
    arrived.wait_gone()


def test_others(host):
    """what has no tag, and who asks for a version, gets QEMU alone"""
    status, _ = host.start(["--version"])
    lib.check(status == 0, f"--version ended with {status}")
    host.config.write_text(CONFIG.replace(";ballast", ";no-ballast"))
    status, said = host.start([*host.words(), "-S"])
    lib.check(status == 0 and not said, f"kvm ended with {status}: {said}")
    maps = pathlib.Path(f"/proc/{host.pid()}/maps").read_text()
    lib.check("ballast-agent" not in maps, f"the agent is in it: {maps}")
    lib.check(not list(host.runtime.iterdir()), "it is a domain")


def test_numa(host):
    """with `numa: 1` and one socket it starts, too"""
    numa = ["-m", "768", "-object", "memory-backend-ram,id=ram-node0,size=768M", "-numa",
            "node,nodeid=0,cpus=0,memdev=ram-node0"]
    host.config.write_text(CONFIG.replace("\nmemory: 768", "\nmemory: current=768\nnuma: 1"))
    status, said = host.start([*host.words(memory=numa), "-S"])
    lib.check(status == 0 and not said, f"kvm ended with {status}: {said}")
    stat = Daemon(host).stat()
    lib.check(stat["max_pages"] == lib.size_to_pages(MAXIMUM), stat)
    lib.check(stat["total_pages"] == lib.size_to_pages(TARGET), stat)
    # `qm set --balloon`, and pvestatd, set the target in this way.
    qmp = Daemon(host).qmp()
    qmp.call("balloon", value=256 << 20)
    stat = Daemon(host).stat()
    lib.check(stat["total_pages"] == stat["target_pages"] == lib.size_to_pages("256M"), stat)
    lib.check(qmp.call("query-balloon")["actual"] == 256 << 20, "what the balloon says")


def test_refusals(host):
    """what cannot be is refused, and says why"""
    plain = host.words()
    ivshmem = ["-device", "ivshmem-plain,memdev=ivshmem,", "-object",
               f"memory-backend-file,id=ivshmem,share=on,mem-path={host.folder}/shm,size=4M"]
    shared = ["-m", "768", "-object", "memory-backend-memfd,id=virtiofs-mem,size=768M,share=on",
              "-machine", "memory-backend=virtiofs-mem"]
    for config, words, expected in [
            (CONFIG.replace("balloon: 192\n", ""), plain, "no target"),
            (CONFIG.replace("balloon: 192", "balloon: 0"), plain, "no target"),
            (CONFIG.replace("balloon: 192", "balloon: 1024"), plain, "above the guest's memory"),
            (CONFIG, host.words(memory=shared), "memory-backend-memfd"),
            (CONFIG, host.words(state=ivshmem), "memory-backend-file")]:
        host.config.write_text(config)
        status, said = host.start(words)
        lib.check(status in (lib.EXIT_REFUSED, lib.EXIT_USAGE), f"{expected}: {status} {said}")
        lib.check(expected in said and said.startswith("ballast: "), f"{expected}: {said}")
        lib.check(not (host.runtime / VMID).exists(), "the domain's folder is there")


lib.run_tests(*map(on_a_host, (test_others, test_refusals, test_numa, test_life)))
