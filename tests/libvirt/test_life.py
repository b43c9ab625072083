#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What libvirt does with a domain in its life: the guest finds its data intact after each, and the
domain has its target, owns just that, and so says the kernel."""

import shutil

import private
import lib  # found by what private adds to the path  # pylint: disable=wrong-import-order
from private import BASE, GUESTS, check, must, until

TARGET = "160M"
# Without a balloon driver, so that nothing but PoD keeps it; what it has freed holds zeros.
PREBALLOONED = "ballast.balloon=off init_on_free=1"


def ups(domain):
    """How often the guest has come up, as far as its console tells."""
    return domain.said().count("up")


def check_intact(domain):
    """The guest's data and the domain's memory are as they should be."""
    domain.wait_rounds(2)
    domain.check_total(TARGET)


def check_nothing_left(domain):
    """Neither a folder nor a word to the emulator."""
    until(lambda: not (BASE / domain.name).exists() and not list((BASE / ".libvirt").iterdir()), 20,
          f"something is left of {domain.name}")


def test_life(session):
    """suspend, resume, save, restore, managedsave, snapshot-create, snapshot-revert, dump, a restart of \
libvirtd, reset, destroy"""
    if not shutil.which("qemu-img"):
        raise lib.Skip("there is no qemu-img: install qemu-utils")
    disk = GUESTS / "disk.qcow2"
    must("qemu-img", "create", "-q", "-f", "qcow2", disk, "64M")
    domain = session.start_pattern("web", "512M", TARGET, append=PREBALLOONED, devices=(
        f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{disk}'/>"
        f"<target dev='vda' bus='virtio'/></disk>"))
    check_intact(domain)
    domain.virsh("suspend")
    check(domain.state() == "paused", domain.state())
    domain.check_total(TARGET)
    domain.virsh("resume")
    check_intact(domain)

    pid = domain.pid()
    domain.virsh("save", GUESTS / "saved")
    check(domain.state() == "shut off", domain.state())
    check_nothing_left(domain)
    session.virsh("restore", GUESTS / "saved")
    check(domain.pid() != pid, "it should be another process")
    check_intact(domain)

    domain.virsh("managedsave")
    check("Managed save:   yes" in domain.virsh("dominfo"), domain.virsh("dominfo"))
    domain.virsh("start")
    check_intact(domain)

    domain.virsh("snapshot-create-as", "one")
    check_intact(domain)
    domain.virsh("snapshot-revert", "one")
    check_intact(domain)

    for words in (["--memory-only"], []):
        file = GUESTS / "dump"
        domain.virsh("dump", file, *words)
        check(file.stat().st_size > 48 << 20, f"the dump has {file.stat().st_size} bytes")
        file.unlink()
    check_intact(domain)

    pid = domain.pid()
    session.restart_daemon()
    check(domain.state() == "running" and domain.pid() == pid, domain.account())
    check(domain.info_mib("Used memory") == 160, domain.virsh("dominfo"))
    before = ups(domain)
    domain.virsh("reset")
    until(lambda: ups(domain) > before, 120, f"it should come up again: {domain.account()}", 0.2)
    check_intact(domain)

    domain.virsh("destroy")
    check_nothing_left(domain)


def test_reboot(session):
    """virsh reboot: the guest that shuts down starts anew in the same process"""
    # This one has no ACPI daemon, and shuts down when its work is done: libvirt takes it from there.
    domain = session.define("web", "512M", TARGET, append="ballast.scenario=fill ballast.size=48")
    domain.virsh("start")
    until(lambda: ups(domain) == 1, 120, domain.account(), 0.1)
    pid = domain.pid()
    domain.virsh("reboot")
    until(lambda: ups(domain) == 2, 120, f"it should come up again: {domain.account()}", 0.1)
    # It is not up for long: as long as it takes to look.
    domain.virsh("suspend")
    check(domain.pid() == pid, "it should be the same process")
    domain.check_total(TARGET)
    domain.virsh("resume")
    domain.wait_gone()
    check("filled 48 MiB" in domain.said(), domain.account())
    check_nothing_left(domain)


private.run_tests(test_life, test_reboot)
