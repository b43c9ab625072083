# SPDX-License-Identifier: MIT
"""Guests under Ballast, for the guest tests and the benchmarks.

Everything a Session starts and makes is gone when it ends, whatever happens. The build folder is
$BALLAST_BUILD_DIR, which meson sets for the tests.
"""

import contextlib
import functools
import json
import os
import pathlib
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import harness  # noqa: E402  pylint: disable=wrong-import-position
from harness import (  # noqa: E402, F401  pylint: disable=wrong-import-position
    SKIP, TIME_FACTOR, Failed, Qmp, Skip, check, seconds, until)

SOURCE = pathlib.Path(__file__).resolve().parent.parent.parent
QEMU = "qemu-system-x86_64"
PAGE = 4096

# include/ballast/protocol.h
EXIT_USAGE = 2
EXIT_DESTROYED = 82
EXIT_REFUSED = 84
EXIT_EXHAUSTED = 86

# How long a guest may take in all. A boot takes some seconds; a busy machine takes its time.
BOOT_LIMIT_S = 150
# What guests run on unless a test says otherwise: tcg or kvm.
ACCEL = os.environ.get("BALLAST_ACCEL", "tcg")


def build_dir():
    return pathlib.Path(os.environ.get("BALLAST_BUILD_DIR", SOURCE / "build"))


def size_to_pages(text):
    """Pages of a size such as 96M or 4G."""
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    return int(text[:-1]) * units[text[-1]] // PAGE


def guest_kit():
    """Where the kernel, the initramfs and memtest86+ are."""
    done = subprocess.run([SOURCE / "scripts/guest-kit", "--cached"], text=True,
                          capture_output=True, check=False)
    if done.returncode != 0:
        raise Skip(done.stderr.strip().removeprefix("guest-kit: "))
    return dict(line.split(" ", 1) for line in done.stdout.splitlines())


def require_host():
    """Raises Skip on a machine that cannot run domains."""
    if not shutil.which(QEMU):
        raise Skip(f"there is no {QEMU}: install qemu-system-x86")
    release = os.uname().release
    version = tuple(int(part) for part in re.match(r"(\d+)\.(\d+)", release).groups())
    if version < (6, 8):
        raise Skip(f"the kernel is {release}, and UFFDIO_MOVE came with 6.8")
    with contextlib.suppress(OSError):
        if pathlib.Path("/proc/sys/vm/unprivileged_userfaultfd").read_text().strip() == "1":
            return
    if os.geteuid() != 0 and not os.access("/dev/userfaultfd", os.R_OK | os.W_OK):
        raise Skip("no permission to serve the kernel's page faults: be root, or open "
                   "/dev/userfaultfd to this user")
    # A container's root may lack what the machine's root has.
    if os.geteuid() == 0:
        effective = re.search(r"^CapEff:\s*([0-9a-f]+)",
                              pathlib.Path("/proc/self/status").read_text(), re.M).group(1)
        cap_sys_ptrace = 19
        if not int(effective, 16) >> cap_sys_ptrace & 1 and not os.path.exists("/dev/userfaultfd"):
            raise Skip("root without CAP_SYS_PTRACE and no /dev/userfaultfd")


@functools.cache
def kvm_lack():
    """What KVM lacks to run guests here; empty if it runs them."""
    done = subprocess.run([SOURCE / "scripts/kvm-works"], text=True, capture_output=True,
                          check=False)
    return done.stdout.strip() if done.returncode != 0 else ""


def require_kvm():
    """Raises Skip where KVM does not run guests."""
    if kvm_lack():
        raise Skip(f"no KVM: {kvm_lack()}")


class Observer:
    """The accounting oracle, watching one domain as fast as it can (tests/lib/observer.c). between:
    the least and the most that its target is set to meanwhile, as sizes."""

    def __init__(self, session, name, between=()):
        words = []
        if between:
            words = ["--between", "+".join(str(size_to_pages(size)) for size in between)]
        self.process = session.start([build_dir() / "tests/guest/observer", "--hz", "0", *words,
                                      name], stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if not line:
            if self.process.wait() == SKIP:
                raise Skip("the kernel has no PAGEMAP_SCAN for the observer")
            raise Failed("the observer took no sample")
        self.first = json.loads(line)

    def stop(self):
        """Ends it. Returns what it saw."""
        self.process.terminate()
        return self.report()

    def report(self):
        """What it saw until the domain ended."""
        line = self.process.stdout.readline()
        self.process.wait()
        check(line, "the observer ended without a report")
        return json.loads(line)


class Guest:
    """One QEMU, under Ballast if it has a target, plain if not."""

    def __init__(self, session, name, process, folder, target):
        self.session = session
        self.name = name
        self.process = process
        self.folder = folder
        self.target = target

    @property
    def serial(self):
        """What the guest has written on its console."""
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / "serial").read_text(errors="replace")
        return ""

    @property
    def stderr(self):
        return (self.folder / "stderr").read_text(errors="replace")

    def said(self):
        """The guest's own lines."""
        return re.findall(r"^ballast-guest: (.*?)\r?$", self.serial, re.M)

    def fact(self, word):
        """The rest of the guest's line that begins with a word."""
        for line in self.said():
            if line.startswith(word + " "):
                return line[len(word) + 1:]
        raise Failed(f"the guest said nothing of {word}: {self.account()}")

    def account(self):
        """How it went, for a failed test."""
        return (f"{self.name}: exit status {self.process.poll()}, stderr {self.stderr!r}, "
                f"console ends in {self.serial[-400:]!r}")

    def alive(self):
        return self.process.poll() is None

    def wait_up(self, limit_s=60):
        """Until QEMU's monitor (and the agent, if there is one) answers."""
        def up():
            if not self.alive():
                raise Failed(f"QEMU ended before its monitor answered: {self.account()}")
            return (self.folder / "qmp").exists() and (self.target is None or self.stat())
        until(up, limit_s, f"{self.name} should answer")
        # The monitor listens before QEMU is ready for signals; when it answers, it is.
        qmp = self.qmp()
        qmp.call("query-status")
        qmp.close()

    def qmp(self):
        return Qmp(self.folder / "qmp")

    def stat(self):
        """What `ballast stat --json` says, or None if it fails."""
        done = self.session.ballast("stat", "--json", self.name)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def wait_said(self, line, limit_s=BOOT_LIMIT_S):
        def said():
            if line in self.said():
                return True
            check(self.alive(), f"QEMU ended before the guest said '{line}': {self.account()}")
            return False
        until(said, limit_s, f"the guest should say '{line}'", 0.1)

    def wait(self, limit_s=BOOT_LIMIT_S):
        """Waits for QEMU's end. Returns its exit status."""
        try:
            return self.process.wait(seconds(limit_s))
        except subprocess.TimeoutExpired:
            raise Failed(f"QEMU did not end within {seconds(limit_s):.0f} s: "
                         f"{self.account()}") from None


class Session:
    """Owns what a test starts and makes."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="ballast-guest-"))
        self.runtime = self.folder / "run"
        self.runtime.mkdir()
        self.processes = []
        self.count = 0
        self.environment = dict(os.environ, BALLAST_RUNTIME_DIR=str(self.runtime))
        self.environment.pop("LD_PRELOAD", None)
        # A plain `kill` of this process must not leave QEMU behind.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for pid in self.domain_pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self.processes:
            if process.poll() is None:
                process.kill()
        for process in self.processes:
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def domain_pids(self):
        """The processes that run our domains, those that went into the background too."""
        for lock in self.runtime.glob("*/lock"):
            for pid in self.holders(lock):
                yield pid

    @staticmethod
    def holders(path):
        """The processes that have a file open."""
        for fd in pathlib.Path("/proc").glob("[0-9]*/fd/*"):
            with contextlib.suppress(OSError):
                if os.readlink(fd) == str(path):
                    pid = int(fd.parts[2])
                    if pid != os.getpid():
                        yield pid

    def start(self, command, **options):
        """Starts a process that ends with the session at the latest."""
        options.setdefault("env", self.environment)
        options.setdefault("stdin", subprocess.DEVNULL)
        process = subprocess.Popen([str(word) for word in command], **options)
        self.processes.append(process)
        return process

    def ballast(self, *words, limit_s=60):
        """Runs a ballast command to its end."""
        return subprocess.run([str(build_dir() / "tools/ballast"), *[str(word) for word in words]],
                              env=self.environment, text=True, capture_output=True,
                              stdin=subprocess.DEVNULL, timeout=seconds(limit_s), check=False)

    def start_qemu(self, words, target=None, name=None, options=(), prefix=(), qemu=QEMU,
                   prepare=None):
        """Starts QEMU with just these arguments, and `ballast run` with these options, through the
        command `prefix` if there is one. Its stderr goes to a file. `prepare` is called when there
        is a folder for the guest's files."""
        self.count += 1
        name = name or f"guest{self.count}"
        folder = self.folder / f"{self.count}"
        folder.mkdir()
        if prepare is not None:
            prepare()
        command = [qemu, *words]
        if target is not None:
            command = [build_dir() / "tools/ballast", "run", "--name", name, "--target", target,
                       *options, "--", *command]
        command = [str(word).replace("@FOLDER@", str(folder)) for word in [*prefix, *command]]
        with open(folder / "stderr", "wb") as stderr, open(folder / "stdout", "wb") as stdout:
            process = self.start(command, stdout=stdout, stderr=stderr)
        return Guest(self, name, process, folder, target)

    def start_guest(self, maximum, target=None, accel=ACCEL, append="", held=False, extra=(),
                    kernel=None, name=None, options=(), reboots=False, prefix=(), memory=None):
        """Starts Debian's kernel with our initramfs (or another kernel, alone). `held`: it waits
        for QMP's cont before the first instruction. `reboots`: a reset does not end it. `memory`:
        what -m says, if more than a size."""
        kit = guest_kit()
        words = ["-accel", accel, "-m", memory or maximum, "-nodefaults", "-no-user-config",
                 "-display", "none", "-serial", "file:@FOLDER@/serial", "-qmp",
                 "unix:@FOLDER@/qmp,server=on,wait=off"]
        if not reboots:
            words += ["-no-reboot"]
        if accel == "kvm":
            words += ["-cpu", "host"]
        if held:
            words += ["-S"]
        if kernel is None:
            words += ["-kernel", kit["kernel"], "-initrd", kit["initramfs"], "-append",
                      f"console=ttyS0 panic=-1 {append}".strip()]
        else:
            words += ["-kernel", kernel]
        return self.start_qemu([*words, *extra], target, name, options, prefix)

    def boot(self, maximum, target=None, **options):
        """Boots a guest that plays its scenario and powers off. Returns it, ended well."""
        guest = self.start_guest(maximum, target, **options)
        status = guest.wait()
        check(status == 0 and "done" in guest.said(), f"the guest did not get through: "
              f"{guest.account()}")
        return guest

    def nothing_left(self, name):
        """Is the domain's folder gone?"""
        return not (self.runtime / name).exists()


def describe_report(report):
    """An observer's report in one line."""
    in_flight = report["in_flight_reread"] + report["in_flight_stopped"]
    return (f"{report['samples']} samples: {report['exact']} exact at first "
            f"sight, {in_flight} with a page in flight ({report['in_flight_stopped']} settled by "
            f"stopping), {report['deviations']} deviations; QEMU's own memory "
            f"{report['other_anon_max_pages'] * PAGE >> 20} MiB")


def observed_boot(session, maximum, target, accel=ACCEL, append="", extra=()):
    """Boots a guest whose accounting is watched from before its first instruction to its end."""
    guest = session.start_guest(maximum, target, accel=accel, append=append, held=True, extra=extra)
    guest.wait_up()
    observer = Observer(session, guest.name)
    qmp = guest.qmp()
    status = qmp.call("query-status")
    check(status["status"] == "prelaunch" and not status["running"],
          f"the guest should not have run before the observer's first sample: {status}")
    check(observer.first["sum_pages"] == size_to_pages(target),
          f"before the first instruction {observer.first['sum_pages']} pages were resident, not "
          f"{size_to_pages(target)}")
    qmp.call("cont")
    exit_status = guest.wait()
    report = observer.report()
    print("  " + describe_report(report))
    check(exit_status == 0 and "done" in guest.said(),
          f"the guest did not get through: {guest.account()}")
    check(report["good"], f"the kernel's books say otherwise: {json.dumps(report)}")
    check(report["sum_min_pages"] == report["sum_max_pages"] == size_to_pages(target),
          f"the sum was not always the target: {json.dumps(report)}")
    check(report["smaps_checks"] > 0, f"smaps was never looked at: {json.dumps(report)}")
    check(session.nothing_left(guest.name), "the domain's folder is still there")
    return guest, report


def peak_rss_mib():
    """Of all children that have ended."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10


def go_where_kvm_works():
    """If KVM does not work here, and $BALLAST_KVM_RUN is a command under which it does (the words
    before a command, as of a shell): becomes that, running this program. It need not keep the
    environment."""
    prefix = shlex.split(os.environ.get("BALLAST_KVM_RUN", ""))
    if not prefix or not kvm_lack():
        return
    passed = [f"{name}={value}" for name, value in os.environ.items()
              if name.startswith("BALLAST_") and name != "BALLAST_KVM_RUN"]
    print(f"  through {prefix[0]}", flush=True)
    try:
        os.execvp(prefix[0], [*prefix, "env", "-u", "BALLAST_KVM_RUN", *passed, sys.executable,
                              os.path.abspath(sys.argv[0]), *sys.argv[1:]])
    except OSError as why:
        sys.exit(f"BALLAST_KVM_RUN begins with {prefix[0]}, which cannot be run: {why.strerror}")


def run_tests(*tests, accel=ACCEL):
    """Runs the functions, each with a session of its own, and ends the program: 0, 1, or 77 if
    all were skipped."""
    if not (build_dir() / "tools/ballast").exists():
        sys.exit(f"there is no ballast in {build_dir()}: build it, or set BALLAST_BUILD_DIR")
    if accel == "kvm":
        go_where_kvm_works()

    def require():
        require_host()
        if accel == "kvm":
            require_kvm()
    harness.run_tests(tests, lambda test: test.__doc__.split("\n")[0].rstrip("."), require, Session)
