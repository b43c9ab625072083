#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Domains of a libvirt that AppArmor confines, with the distribution's own profiles: our rules are
enough, and they are needed.

Profiles are loaded into the kernel, for the whole machine. So this runs only where libvirt's are not
loaded, and takes them out again.
"""

import contextlib
import pathlib
import re
import shutil

import private
from private import STAGE, Skip, check, must, run

FOLDER = pathlib.Path("/etc/apparmor.d")
# What Debian's package libvirt-daemon-system brings.
PROFILES = [FOLDER / "usr.sbin.libvirtd", FOLDER / "usr.lib.libvirt.virt-aa-helper"]
NEEDED = [*PROFILES, FOLDER / "libvirt/TEMPLATE.qemu", FOLDER / "abstractions/libvirt-qemu"]
# Where our rules go, as ballast-libvirt(7) says.
LOCAL = {"libvirtd": FOLDER / "local/usr.sbin.libvirtd",
         "libvirt-qemu": FOLDER / "local/abstractions/libvirt-qemu"}
SECURITY = pathlib.Path("/sys/kernel/security")


def need_apparmor():
    """Raises Skip where AppArmor enforces nothing."""
    enabled = pathlib.Path("/sys/module/apparmor/parameters/enabled")
    if not enabled.exists() or enabled.read_text().strip() != "Y":
        raise Skip("this kernel has no AppArmor, or it is off")
    if not shutil.which("apparmor_parser"):
        raise Skip("there is no apparmor_parser: install apparmor")
    missing = [str(path) for path in NEEDED if not path.exists()]
    if missing:
        raise Skip(f"there is no {missing[0]}: libvirt's profiles are in libvirt-daemon-system")


def loaded():
    """libvirt's profiles that the kernel has."""
    if not (SECURITY / "apparmor").exists():
        must("mount", "-t", "securityfs", "securityfs", SECURITY)
    return [line for line in (SECURITY / "apparmor/profiles").read_text().splitlines()
            if re.match(r"libvirt|virt-aa-helper", line)]


def load():
    """Gives the kernel the daemon's profiles as they are now; those of domains libvirt makes itself."""
    for profile in PROFILES:
        must("apparmor_parser", "--replace", "--skip-cache", profile)


def allow():
    """What ballast-libvirt(7) tells the operator to do."""
    where = f"/{private.Session.folder.relative_to(STAGE)}"
    for name, local in LOCAL.items():
        rules = next(STAGE.rglob(f"apparmor/{name}"))
        text = rules.read_text()
        check(f"{where}/ballast-emulator" in text, f"{rules} does not name {where}: {text}")
        rules.write_text(text.replace(where, str(private.Session.folder)))
        with open(local, "a", encoding="utf-8") as file:
            file.write(f'include "{rules}"\n')
    load()


def kernel_says():
    """What AppArmor has denied so far, of all the kernel remembers."""
    return [line for line in must("dmesg").splitlines() if 'apparmor="DENIED"' in line]


@contextlib.contextmanager
def confined(session):
    """libvirtd under AppArmor, without our rules."""
    if loaded():
        raise Skip("this machine's own libvirt is confined, by profiles that ours would replace")
    try:
        for local in LOCAL.values():
            local.parent.mkdir(parents=True, exist_ok=True)
            local.write_text("")
        (FOLDER / "local/usr.lib.libvirt.virt-aa-helper").write_text("")
        load()
        private.configure(private.DEVICES, 'security_driver = "apparmor"\n')
        session.restart_daemon()
        yield
    finally:
        session.stop_daemon()
        for line in loaded():
            name = line.rsplit(" (", 1)[0]
            if "//" not in name:  # those go with theirs
                run("apparmor_parser", "--remove", input=f"profile {name} {{\n}}\n", stdin=None)


def label(pid):
    """What confines a process."""
    return pathlib.Path(f"/proc/{pid}/attr/current").read_text().strip("\0\n")


def test_confined(session):
    """without our rules no domain starts; with them one lives and grows, confined"""
    with confined(session):
        check(label(session.daemon.pid) == "libvirtd (enforce)", label(session.daemon.pid))
        xml = private.GUESTS / "web.xml"
        xml.write_text(session.xml("web", "512M", "160M"))
        session.refused("create", xml)
        check(any("ballast-emulator" in line for line in kernel_says()), f"{kernel_says()}")
        allow()
        session.restart_daemon()
        before = len(kernel_says())
        live(session)
        said = kernel_says()[before:]
        ours = [line for line in said if re.search("ballast|userfaultfd|pagemap", line)]
        check(not ours, f"AppArmor keeps us from something: {ours}")
        print(f"  denied, and none of it ours: {len(said)}")


def live(session):
    """A domain that is started, grows, and is destroyed."""
    domain = session.start_pattern("web", "512M", "160M")
    check(label(domain.pid()) == f"libvirt-{domain.virsh('domuuid').strip()} (enforce)",
          label(domain.pid()))
    domain.wait_rounds(1)
    domain.check_total("160M")
    domain.virsh("setmem", "256M", "--live")
    domain.check_total("256M")
    domain.wait_rounds(1)
    domain.virsh("destroy")
    check(not (private.BASE / "web").exists(), "its folder is left")


private.run_tests(test_confined, need=need_apparmor)
