#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Ballast for users who are not root: with the permission to use userfaultfd, and without.

As root this becomes a user who does not exist, in a mount namespace of its own, where /dev/userfaultfd
is a node that this test made, with the mode and group that it wants; the machine's own stays as it
is. As somebody else it tests what that user may do. The programs are copied to where all may read
them.
"""

import contextlib
import ctypes
import json
import os
import pathlib
import shutil
import stat
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
from harness import Qmp, Skip, check, run_tests, until  # noqa: E402  pylint: disable=wrong-import-position

BUILD = pathlib.Path(os.environ.get(
    "BALLAST_BUILD_DIR", pathlib.Path(__file__).resolve().parent.parent.parent / "build"))
DEVICE = pathlib.Path("/dev/userfaultfd")
SYSCTL = pathlib.Path("/proc/sys/vm/unprivileged_userfaultfd")
PATIENCE_S = 60
REFUSED, DESTROYED = 84, 82
IS_ROOT = os.geteuid() == 0
# Users and a group that nobody has.
USER, OTHER_USER, GROUP = 61234, 61235, 61236

CLONE_NEWNS = 0x20000


def mount(*words):
    """Runs mount; Skip if it fails."""
    done = subprocess.run(["mount", *[str(word) for word in words]], text=True,
                          capture_output=True, check=False)
    if done.returncode != 0:
        raise Skip(done.stderr.strip())


def enter_namespace():
    """From here on what is mounted is seen by nobody else, and gone with us."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) != 0:
        raise Skip(f"no mount namespace can be made: {os.strerror(ctypes.get_errno())}")
    mount("--make-rprivate", "/")


def require():
    """What all tests here need."""
    version = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
    if version < (6, 8):
        raise Skip(f"the kernel is {os.uname().release}, and UFFDIO_MOVE came with 6.8")


class Place:
    """A user's own folders, the programs, and as root a /dev/userfaultfd to be opened and closed."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.runtime, self.programs = self.folder / "run", self.folder / "bin"
        self.node = self.folder / "nodes/userfaultfd"
        self.processes = []
        self.mounts = []
        self.env = {name: value for name, value in os.environ.items()
                    if not name.startswith("BALLAST_") and name != "LD_PRELOAD"}
        self.env.update(XDG_RUNTIME_DIR=str(self.runtime), HOME=str(self.runtime),
                        BALLAST_AGENT_SO=str(self.programs / "ballast-agent.so"),
                        PATH=f"{self.programs}:/usr/bin:/bin")

    def prepare(self):
        """Makes it all."""
        self.folder.chmod(0o755)
        self.runtime.mkdir(mode=0o700)
        self.programs.mkdir()
        for path in ("tools/ballast", "src/agent/ballast-agent.so", "tests/host/fake_qemu"):
            if not (BUILD / path).exists():
                raise Skip(f"the build has no {path}")
            shutil.copy(BUILD / path, self.programs)
        # A name by which doctor finds it.
        (self.programs / "fake_qemu").rename(self.programs / "qemu-system-fake")
        if IS_ROOT:
            os.chown(self.runtime, USER, USER)
            self.make_device()

    def make_device(self):
        """A /dev/userfaultfd of our own."""
        if not DEVICE.exists():
            raise Skip("there is no /dev/userfaultfd: the kernel has none before 6.1")
        nodes = self.node.parent
        nodes.mkdir()
        mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", nodes)
        self.mounts.append(nodes)
        try:
            os.mknod(self.node, stat.S_IFCHR | 0o600, DEVICE.stat().st_rdev)
        except PermissionError:
            raise Skip("no device node can be made here") from None
        mount("--bind", self.node, DEVICE)
        self.mounts.append(DEVICE)

    def give_permission(self):
        """As contrib/udev does it: a group that the user is in may use the device."""
        if IS_ROOT:
            os.chown(self.node, 0, GROUP)
            self.node.chmod(0o660)
        elif not os.access(DEVICE, os.R_OK | os.W_OK) and SYSCTL.read_text().strip() != "1":
            raise Skip("this user may not use userfaultfd")

    def withhold_permission(self):
        """Nobody but root may use it."""
        if SYSCTL.exists() and SYSCTL.read_text().strip() == "1":
            raise Skip("vm.unprivileged_userfaultfd is 1: all users may use userfaultfd")
        if not IS_ROOT and os.access(DEVICE, os.R_OK | os.W_OK):
            raise Skip("this user may use userfaultfd")

    def start(self, *words, user=USER, **env):
        """Starts a program as the user."""
        identity = {"user": user, "group": user, "extra_groups": [GROUP]} if IS_ROOT else {}
        process = subprocess.Popen([str(word) for word in words], env=dict(self.env, **env),
                                   text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, cwd="/", **identity)
        self.processes.append(process)
        return process

    def run(self, *words, **more):
        """Runs one to its end."""
        process = self.start(*words, **more)
        output, errors = process.communicate(timeout=PATIENCE_S)
        return subprocess.CompletedProcess(words, process.returncode, output, errors)

    def ballast(self, *words, **more):
        return self.run(self.programs / "ballast", *words, **more)

    def start_fake(self, name, **more):
        """A domain whose guest uses some memory and then does nothing."""
        process = self.start(self.programs / "ballast", "run", "--name", name, "--target", "16M",
                             "--", self.programs / "qemu-system-fake", "block", "pc.ram",
                             "memory-backend-ram", "128", "private", "machine", "touch", "0",
                             "1000", "check", "0", "1000", "hang", **more)
        self.wait_running(name, process)
        return process

    def wait_running(self, name, process):
        def runs():
            check(process.poll() is None, f"it ended with {process.returncode}, saying "
                  f"{process.stderr.read() if process.poll() is not None else ''}")
            done = self.ballast("ls", "--json")
            check(done.returncode == 0, done)
            return any(d["name"] == name and d.get("state") == "running"
                       for d in json.loads(done.stdout))
        until(runs, PATIENCE_S, f"{name} should run")

    def close(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.communicate()
        for target in reversed(self.mounts):
            subprocess.run(["umount", target], check=True)


@contextlib.contextmanager
def new_place():
    with tempfile.TemporaryDirectory(prefix="ballast-user-") as folder:
        place = Place(folder)
        try:
            place.prepare()
            yield place
        finally:
            place.close()


def findings(place):
    done = place.ballast("doctor", "--json")
    return done.returncode, {f["id"]: f for f in json.loads(done.stdout)["findings"]}


def test_a_life(place):
    """a domain's whole life, in the user's own folder"""
    place.give_permission()
    process = place.start_fake("vm1")
    folder = place.runtime / "ballast"
    for path, mode in ((folder, 0o700), (folder / "vm1", 0o700),
                       (folder / "vm1/control.sock", 0o600)):
        status = path.stat()
        check(stat.S_IMODE(status.st_mode) == mode, f"{path} has mode {oct(status.st_mode)}")
        check(not IS_ROOT or status.st_uid == USER, f"{path} is {status.st_uid}'s")
    check(place.ballast("ls", "--names").stdout == "vm1\n", "ls")
    until(lambda: json.loads(place.ballast("stat", "--json", "vm1").stdout)[
        "populated_pages"] >= 1000, PATIENCE_S, "the guest should get what it touches")
    state = json.loads(place.ballast("stat", "--json", "vm1").stdout)
    check(state["total_pages"] == 16 * 256, state)
    for size, pages in (("48M", 48 * 256), ("24M", 24 * 256)):
        done = place.ballast("set", "vm1", size)
        check(done.returncode == 0 and done.stderr == "", done)
        state = json.loads(place.ballast("stat", "--json", "vm1").stdout)
        check(state["target_pages"] == pages, state)
    check('ballast_domain_up{domain="vm1"} 1' in place.ballast("metrics").stdout, "metrics")
    done = place.ballast("destroy", "vm1")
    check(done.returncode == 0, done)
    check(process.wait(PATIENCE_S) == DESTROYED, process.returncode)
    check(list(folder.iterdir()) == [], f"left: {list(folder.iterdir())}")


def test_faults_of_the_kernel(place):
    """QEMU's system calls on memory that the guest never touched are served"""
    place.give_permission()
    qemu = shutil.which("qemu-system-x86_64", path="/usr/bin:/usr/local/bin")
    if qemu is None:
        raise Skip("there is no qemu-system-x86_64")
    monitor, dump = place.runtime / "qmp", place.runtime / "dump"
    process = place.start(place.programs / "ballast", "run", "--name", "vm1", "--target", "16M",
                          "--", qemu, "-m", "64", "-S", "-nodefaults", "-display", "none",
                          "-accel", "tcg", "-qmp", f"unix:{monitor},server=on,wait=off")
    place.wait_running("vm1", process)
    qmp = Qmp(monitor)
    # It writes guest RAM as it is: the kernel reads it, and takes the faults.
    qmp.call("dump-guest-memory", paging=False, protocol=f"file:{dump}")
    check(dump.stat().st_size > 64 << 20, f"the dump has {dump.stat().st_size} bytes")
    state = json.loads(place.ballast("stat", "--json", "vm1").stdout)
    check(state["faults"] > 0 and state["total_pages"] == 16 * 256, state)
    qmp.close()
    check(place.ballast("destroy", "vm1").returncode == 0, "destroy")
    check(process.wait(PATIENCE_S) == DESTROYED, process.returncode)


def test_doctor_with_permission(place):
    """doctor finds the permission, and how it is given"""
    place.give_permission()
    _, found = findings(place)
    check(found["userfaultfd"]["level"] == "ok", found["userfaultfd"])
    check(not IS_ROOT or "through /dev/userfaultfd" in found["userfaultfd"]["what"] or
          "unprivileged_userfaultfd=1" in found["userfaultfd"]["what"], found["userfaultfd"])
    check(found["uffdio-move"]["level"] == "ok", found["uffdio-move"])
    check(str(place.runtime) in found["runtime-folder"]["what"], found["runtime-folder"])


def test_without_permission(place):
    """without permission nothing is started, and the error says what to do"""
    place.withhold_permission()
    done = place.ballast("run", "--target", "16M", "--", place.programs / "qemu-system-fake")
    check(done.returncode == REFUSED and done.stdout == "", done)
    check(done.stderr.count("\n") == 1 and done.stderr.startswith("ballast: userfaultfd is not "
                                                                   "permitted: "), done)
    for piece in ("/dev/userfaultfd", "vm.unprivileged_userfaultfd", "ballast doctor --fix"):
        check(piece in done.stderr, f"{piece} is not in {done.stderr}")
    check(list(place.runtime.iterdir()) == [], f"left: {list(place.runtime.iterdir())}")
    # What needs no permission works.
    check(place.ballast("ls", "--json").stdout == "[]\n", "ls")


def test_doctor_without_permission(place):
    """doctor finds that it is withheld, prints commands, and still tries the kernel"""
    place.withhold_permission()
    status, found = findings(place)
    check(status == 1 and found["userfaultfd"]["level"] == "problem", found["userfaultfd"])
    fix = found["userfaultfd"]["fix"]
    user = str(USER) if IS_ROOT else ""
    check(any(line.startswith(f"usermod --append --groups kvm '{user}") for line in fix), fix)
    check(any(line.startswith("udevadm trigger") for line in fix), fix)
    check(found["uffdio-move"]["level"] == "ok", found["uffdio-move"])


def test_no_runtime_folder(place):
    """without XDG_RUNTIME_DIR there is a clear error"""
    place.give_permission()
    for words, status in ((["ls"], 1), (["run", "--target", "16M", "--", "qemu-system-fake"],
                                        REFUSED)):
        done = place.ballast(*words, XDG_RUNTIME_DIR="")
        check(done.returncode == status, done)
        check("XDG_RUNTIME_DIR" in done.stderr and "BALLAST_RUNTIME_DIR" in done.stderr, done)


def test_other_users(place):
    """what others may not do, and what root may"""
    if not IS_ROOT:
        raise Skip("needs root, to be two users")
    place.give_permission()
    process = place.start_fake("vm1")
    theirs = str(place.runtime / "ballast")
    for words in (["ls"], ["stat", "vm1"], ["destroy", "vm1"], ["set", "vm1", "32M"]):
        done = place.ballast(*words, user=OTHER_USER, BALLAST_RUNTIME_DIR=theirs)
        check(done.returncode == 1 and done.stdout == "", done)
        check("Permission denied" in done.stderr and done.stderr.count("\n") == 1, done)
    check(process.poll() is None, "it ended")
    done = subprocess.run([place.programs / "ballast", "stat", "--json", "vm1"], text=True,
                          env=dict(place.env, BALLAST_RUNTIME_DIR=theirs), capture_output=True,
                          timeout=PATIENCE_S, check=False)
    check(done.returncode == 0 and json.loads(done.stdout)["name"] == "vm1", done)


if IS_ROOT:
    try:
        enter_namespace()
    except Skip as why:
        print(f"skipped: {why}")
        sys.exit(77)
run_tests([test for name, test in list(globals().items()) if name.startswith("test_")],
          lambda test: test.__doc__, require, new_place)
