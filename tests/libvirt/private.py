# SPDX-License-Identifier: MIT
"""A libvirt of our own, for the tests with libvirt.

The test starts itself anew in namespaces of its own: processes, mounts, network. There /etc, /run and
what libvirt keeps below /var are copies or empty, Ballast is installed below /run, and libvirtd runs as
root and QEMU as a user of its own, as distributions have it. The machine's own libvirt, if there is
one, sees nothing of it, and all of it ends with the test.

The build folder is $BALLAST_BUILD_DIR, which meson sets for the tests.
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
for folder in ("../guest", "../lib"):
    sys.path.insert(0, str((HERE / folder).resolve()))
import harness  # noqa: E402  pylint: disable=wrong-import-position
import lib  # noqa: E402  pylint: disable=wrong-import-position
from harness import Skip, check, seconds, until  # noqa: E402, F401  pylint: disable=wrong-import-position

INSIDE = "BALLAST_TEST_INSIDE"
# What Debian's package libvirt-daemon-system makes: this user, whose group is kvm.
QEMU_USER, QEMU_UID, KVM_GID = "libvirt-qemu", 64055, 64056
STAGE = pathlib.Path("/run/stage")
GUESTS = pathlib.Path("/run/guests")
BASE = pathlib.Path("/run/ballast")
DEVICE = pathlib.Path("/dev/userfaultfd")
NODE = pathlib.Path("/run/userfaultfd")  # ours, mounted there
DEVICES = ["/dev/null", "/dev/full", "/dev/zero", "/dev/random", "/dev/urandom", "/dev/ptmx",
           "/dev/kvm", str(DEVICE)]
PAGE = 4096
KIB_PER_MIB = 1024


def run(*words, limit_s=60, **options):
    """Runs a program to its end."""
    options.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run([str(word) for word in words], text=True, capture_output=True,
                          timeout=seconds(limit_s), check=False, **options)


def must(*words, **options):
    """Runs a program that must not fail. Returns what it printed."""
    done = run(*words, **options)
    check(done.returncode == 0, f"{words}: {done.stdout}{done.stderr}")
    return done.stdout


def is_uuid(word):
    """Does it look like a domain's UUID?"""
    return re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", word) is not None


def is_chroot():
    """Is our root not that of our mounts? Who enters mounts by setns(2), as libvirt does, leaves it."""
    done = run("nsenter", "--mount=/proc/self/ns/mnt", "stat", "--format=%d %i", "/")
    root = os.stat("/")
    return done.returncode == 0 and done.stdout.split() != [str(root.st_dev), str(root.st_ino)]


def require():
    """Raises Skip where this cannot be."""
    lib.require_host()
    if lib.ACCEL == "kvm":
        lib.require_kvm()
    if os.geteuid() != 0:
        raise Skip("libvirt with QEMU as another user needs root")
    for program, package in (("libvirtd", "libvirt-daemon"), ("virsh", "libvirt-clients"),
                             ("unshare", "util-linux"), ("mount", "mount"), ("meson", "meson")):
        if not shutil.which(program) and not os.path.exists(f"/usr/sbin/{program}"):
            raise Skip(f"there is no {program}: install {package}")
    if not DEVICE.exists():
        raise Skip(f"there is no {DEVICE}")
    if is_chroot() and not os.environ.get("BALLAST_LIBVIRT_IN_CHROOT"):
        raise Skip("this is a chroot, which libvirt leaves where it enters a domain's mounts: it would "
                   f"give the machine's own {DEVICE} away; BALLAST_LIBVIRT_IN_CHROOT=1 lets it")
    if not (lib.build_dir() / "tools/ballast-emulator").exists():
        raise Skip("this build has no emulator for libvirt: it was built without expat")
    done = run("unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "--mount-proc",
               "mount", "-t", "tmpfs", "tmpfs", "/run")
    if done.returncode != 0:
        raise Skip(f"no namespaces can be made: {done.stderr.strip()}")


def need_cgroups(done):
    """Raises Skip where libvirt finds cgroups, and can make none: in a chroot without
    /sys/fs/cgroup, say."""
    if re.search("Failed to create v[12] controller", done.stderr):
        raise Skip("libvirt can make no cgroups here: " + done.stderr.strip().split("\n")[-1])


def enter(need):
    """Starts this program anew in namespaces of its own, and ends as it did; does nothing inside.
    need() raises Skip where the tests cannot be."""
    if os.environ.get(INSIDE):
        become_child_of_init()
        return
    try:
        require()
        need()
        lib.guest_kit()
    except Skip as why:
        print(f"  skipped: {why}")
        sys.exit(harness.SKIP)
    os.environ[INSIDE] = "1"
    os.execvp("unshare", ["unshare", "--mount", "--pid", "--net", "--ipc", "--fork", "--kill-child",
                          "--mount-proc", sys.executable, *sys.argv])


def become_child_of_init():
    """Goes on in a child; the first process of the namespace only buries processes, as an init does:
    libvirt waits for those that it ended to be gone."""
    child = os.fork()
    while child != 0:
        pid, ended = os.wait()
        if pid == child:
            os._exit(os.waitstatus_to_exitcode(ended) & 0xff)  # and all others end with us


def mount_empty(path, options="mode=755"):
    """An empty file system in memory at this place."""
    pathlib.Path(path).mkdir(parents=True, exist_ok=True)
    must("mount", "-t", "tmpfs", "-o", options, "tmpfs", path)


def make_etc():
    """A copy of /etc in which there is libvirt's user."""
    shutil.rmtree("/run/etc", ignore_errors=True)
    must("cp", "-a", "/etc", "/run/etc")
    etc = pathlib.Path("/run/etc")
    for name, lines in (
            ("passwd", [f"{QEMU_USER}:x:{QEMU_UID}:{KVM_GID}::/var/lib/libvirt:/usr/sbin/nologin"]),
            ("group", [f"kvm:x:{KVM_GID}:", f"{QEMU_USER}:x:{QEMU_UID}:"])):
        kept = [line for line in (etc / name).read_text().splitlines()
                if line.split(":")[0] not in (QEMU_USER, "kvm")]
        (etc / name).write_text("\n".join(kept + lines) + "\n")
    shutil.rmtree(etc / "libvirt", ignore_errors=True)
    (etc / "libvirt/hooks/qemu.d").mkdir(parents=True)
    must("mount", "--bind", "/run/etc", "/etc")


def make_devices():
    """/dev/userfaultfd as the udev rule has it, and /dev/kvm as distributions have it: one that only
    root may open confuses libvirt, which then looks at QEMU anew each time."""
    for path, node in ((DEVICE, NODE), (pathlib.Path("/dev/kvm"), pathlib.Path("/run/kvm"))):
        if path.exists():
            os.mknod(node, 0o020660, path.stat().st_rdev)
            os.chown(node, 0, KVM_GID)
            os.chmod(node, 0o660)
            must("mount", "--bind", node, path)


def install():
    """Installs this build where everybody may read it. Returns the folder of the agent."""
    build = lib.build_dir()
    must("meson", "install", "-C", build, "--no-rebuild", "--quiet", "--destdir", STAGE)
    folder = next(STAGE.rglob("ballast-emulator")).parent
    hook = next(STAGE.rglob("hooks/qemu.d/ballast"))
    text = hook.read_text().replace(f"hook={'/' / folder.relative_to(STAGE)}", f"hook={folder}")
    check(str(folder) in text, f"the hook does not name {folder}: {text}")
    ours = pathlib.Path("/etc/libvirt/hooks/qemu.d/ballast")
    ours.write_text(text)
    ours.chmod(0o755)
    return folder


def configure(devices, more=""):
    """libvirt's settings; those that are not here are its own."""
    listed = ", ".join(f'"{device}"' for device in devices)
    pathlib.Path("/etc/libvirt/qemu.conf").write_text(
        f'stdio_handler = "file"\ncgroup_device_acl = [ {listed} ]\n{more}')
    pathlib.Path("/etc/libvirt/libvirtd.conf").write_text(
        'auth_unix_ro = "none"\nauth_unix_rw = "none"\nunix_sock_group = "root"\n')


class Domain:
    """A domain of libvirt's; it looks like a guest of tests/guest/lib.py to those who ask its
    console."""

    def __init__(self, session, name, memory, current):
        self.session = session
        self.name = name
        self.max_pages = lib.size_to_pages(memory)
        self.target = current

    @property
    def log(self):
        """What QEMU and Ballast said on standard error."""
        with contextlib.suppress(FileNotFoundError):
            return pathlib.Path(f"/var/log/libvirt/qemu/{self.name}.log").read_text()
        return ""

    @property
    def serial(self):
        with contextlib.suppress(FileNotFoundError):
            return (GUESTS / f"{self.name}.serial").read_text(errors="replace")
        return ""

    def said(self):
        """The guest's own lines."""
        return re.findall(r"^ballast-guest: (.*?)\r?$", self.serial, re.M)

    def account(self):
        """How it went, for a failed test."""
        return (f"{self.name}: {self.state()}, log ends in {self.log[-1200:]!r}, console in "
                f"{self.serial[-300:]!r}")

    def virsh(self, command, *words, **options):
        """A virsh command on this domain, which must not fail."""
        return self.session.virsh(command, self.name, *words, **options)

    def state(self):
        return run("virsh", "domstate", self.name).stdout.strip()

    def alive(self):
        return self.state() in ("running", "paused")

    def pid(self):
        return int(pathlib.Path(f"/run/libvirt/qemu/{self.name}.pid").read_text())

    def stat(self):
        """What `ballast stat --json` says, or None if it fails."""
        done = self.session.ballast("stat", "--json", self.name)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def info_mib(self, key):
        """A size that `virsh dominfo` says."""
        found = re.search(rf"^{key}:\s*(\d+) KiB$", self.virsh("dominfo"), re.M)
        return int(found.group(1)) / KIB_PER_MIB

    def memory_stats(self):
        """What `virsh dommemstat` says, in KiB."""
        return {key: int(value) for key, value in
                (line.split() for line in self.virsh("dommemstat").splitlines() if line)}

    def wait_rounds(self, rounds):
        """Waits until the guest has found all of its data intact some more times."""
        goal = len(self.said()) + rounds

        def said():
            check("DAMAGED" not in self.serial, f"data changed: {self.account()}")
            if len(self.said()) >= goal:
                return True
            check(self.alive(), f"it ended: {self.account()}")
            return False
        until(said, lib.BOOT_LIMIT_S, f"the guest should check its data: {self.account()}", 0.2)

    def wait_gone(self):
        """Waits until libvirt has done with it."""
        until(lambda: self.state() == "shut off", 60, f"{self.name} should be off: {self.account()}",
              0.1)

    def check_total(self, size):
        """The domain has a target, owns just that, and so says the kernel."""
        pages = lib.size_to_pages(size)
        stat = self.stat()
        check(stat is not None, f"the domain should answer: {self.account()}")
        check(stat["target_pages"] == stat["total_pages"] == pages, stat)
        check(stat["pid"] == self.pid(), f"{stat['pid']} is not libvirt's {self.pid()}")
        observer = lib.Observer(self.session, self.name)
        check(observer.first["sum_pages"] == pages,
              f"{observer.first['sum_pages']} pages are resident, not {pages}")
        report = observer.stop()
        check(report["good"], f"the kernel's books say otherwise: {report}")


class Session:
    """Owns the domains of a test; the daemon is there for all tests of the program."""

    daemon = None
    folder = None

    def __init__(self):
        self.environment = {key: value for key, value in os.environ.items()
                            if key not in ("LD_PRELOAD", "XDG_RUNTIME_DIR", "BALLAST_RUNTIME_DIR")}
        self.processes = []
        if Session.daemon is None:
            Session.set_up()

    @classmethod
    def set_up(cls):
        """Everything that the daemon needs, and the daemon."""
        kit = {key: pathlib.Path(path).read_bytes() for key, path in lib.guest_kit().items()
               if key in ("kernel", "initramfs")}
        must("mount", "--make-rprivate", "/")
        mount_empty("/run")
        make_etc()
        for path in ("/var/lib/libvirt", "/var/log/libvirt", "/var/cache/libvirt"):
            mount_empty(path)
        # That of our network, and without cgroups: libvirt would make some in the machine's. What is
        # mounted there goes first: from /proc/mounts libvirt 11 would believe it still is.
        if os.path.ismount("/sys/fs/cgroup"):
            must("umount", "--recursive", "/sys/fs/cgroup")
        must("mount", "-t", "sysfs", "sysfs", "/sys")
        GUESTS.mkdir(mode=0o755)
        for name, content in kit.items():
            (GUESTS / name).write_bytes(content)
        make_devices()
        cls.folder = install()
        configure(DEVICES)
        cls.start_daemon()

    @classmethod
    def start_daemon(cls):
        """Starts libvirtd and waits until it answers."""
        with open("/var/log/libvirt/libvirtd.log", "ab") as log:
            cls.daemon = subprocess.Popen(["/usr/sbin/libvirtd"], stdin=subprocess.DEVNULL,
                                          stdout=log, stderr=log)

        def answers():
            if cls.daemon.poll() is not None:
                text = pathlib.Path("/var/log/libvirt/libvirtd.log").read_text()
                raise Skip(f"libvirtd does not start here: {text[-600:]}")
            return os.path.exists("/run/libvirt/libvirt-sock") and \
                run("virsh", "uri").stdout.strip() == "qemu:///system"
        until(answers, 60, "libvirtd should answer", 0.1)

    @classmethod
    def stop_daemon(cls):
        cls.daemon.send_signal(signal.SIGTERM)
        cls.daemon.wait(seconds(30))

    @classmethod
    def restart_daemon(cls):
        cls.stop_daemon()
        cls.start_daemon()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for name in run("virsh", "list", "--name").stdout.split():
            run("virsh", "destroy", name)
        for name in run("virsh", "list", "--all", "--name").stdout.split():
            run("virsh", "undefine", name, "--managed-save", "--snapshots-metadata")
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()

    def start(self, command, **options):
        """Starts a process that ends with the session at the latest."""
        process = subprocess.Popen([str(word) for word in command], env=self.environment,
                                   stdin=subprocess.DEVNULL, **options)
        self.processes.append(process)
        return process

    def ballast(self, *words):
        """Runs a ballast command to its end, as root."""
        return run(lib.build_dir() / "tools/ballast", *words, env=self.environment, limit_s=120)

    def virsh(self, *words, limit_s=120):
        """A virsh command that must not fail. Returns what it printed."""
        done = run("virsh", *words, limit_s=limit_s)
        need_cgroups(done)
        check(done.returncode == 0, f"virsh {words}: {done.stdout}{done.stderr}")
        return done.stdout

    def refused(self, *words):
        """A virsh command that must fail. Returns what it said."""
        done = run("virsh", *words)
        need_cgroups(done)
        check(done.returncode != 0, f"virsh {words} should be refused: {done.stdout}")
        said = done.stderr
        if "failed to connect to monitor socket" in said:
            # QEMU was gone before libvirt asked it; what it said is in its log then.
            said += pathlib.Path(f"/var/log/libvirt/qemu/{words[1]}.log").read_text()
        print(f"  {said.strip()}")
        return said

    def xml(self, name, memory, current, emulator=None, metadata="", devices="", append="",
            kernel=True):
        """A domain's XML: our small guest, which does what `append` says, or none."""
        emulator = emulator or self.folder / "qemu-system-x86_64"
        (GUESTS / f"{name}.serial").unlink(missing_ok=True)
        boot = f"""<kernel>{GUESTS}/kernel</kernel>
    <initrd>{GUESTS}/initramfs</initrd>
    <cmdline>console=ttyS0 panic=-1 {append}</cmdline>""" if kernel else ""
        serial = f"<serial type='file'><source path='{GUESTS}/{name}.serial'/></serial>" \
            if kernel else ""
        return f"""<domain type='{'kvm' if lib.ACCEL == 'kvm' else 'qemu'}'>
  <name>{name}</name>
  <metadata>{metadata}</metadata>
  <memory unit='KiB'>{lib.size_to_pages(memory) * 4}</memory>
  <currentMemory unit='KiB'>{lib.size_to_pages(current) * 4}</currentMemory>
  <os>
    <type arch='x86_64'>hvm</type>
    {boot}
  </os>
  <features><acpi/></features>
  <on_reboot>restart</on_reboot>
  <devices>
    <emulator>{emulator}</emulator>
    {serial}
    <memballoon model='virtio' freePageReporting='on'/>
    {devices}
  </devices>
</domain>
"""

    def define(self, name, memory, current, **options):
        """Defines a domain."""
        path = GUESTS / f"{name}.xml"
        path.write_text(self.xml(name, memory, current, **options))
        self.virsh("define", path)
        return Domain(self, name, memory, current)

    def start_pattern(self, name, memory, current, size=48, append="", **options):
        """Defines and starts a domain whose guest checks its memory (tests/guest/pattern.py)."""
        domain = self.define(name, memory, current, append=f"ballast.scenario=pattern "
                             f"ballast.size={size} {append}", **options)
        domain.virsh("start")
        return domain


def run_tests(*tests, need=lambda: None):
    """Runs the functions, each with a session of its own, and ends the program. need() raises Skip
    where they cannot be."""
    enter(need)
    harness.run_tests(tests, lambda test: test.__doc__.split("\n")[0].rstrip("."), lambda: None,
                      Session)
