# SPDX-License-Identifier: MIT
"""fake_qemu under the agent, for tests in Python: starts it the way docs/protocol.md says, talks to
its control socket, and counts its pages from outside.

The build folder is $BALLAST_BUILD_DIR, which meson sets for the tests.
"""

import array
import contextlib
import ctypes
import fcntl
import json
import os
import pathlib
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import termios
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import harness  # noqa: E402  pylint: disable=wrong-import-position
from harness import (  # noqa: E402, F401  pylint: disable=wrong-import-position
    Failed, Qmp, Skip, check)

PAGE = 4096
MIB = 1 << 20

# include/ballast/protocol.h
EXIT_DESTROYED = 82
EXIT_EXHAUSTED = 86
EXIT_BROKEN = 88

# Nothing here takes so long; what takes longer hangs.
PATIENCE_S = 60

BUILD = pathlib.Path(os.environ.get(
    "BALLAST_BUILD_DIR", pathlib.Path(__file__).resolve().parent.parent.parent / "build"))


def until(condition, what, poll_s=0.01):
    """Waits until condition() is true, and returns what it returned."""
    return harness.until(condition, PATIENCE_S, what, poll_s)


def require_userfaultfd():
    """Raises Skip where the agent cannot work."""
    system_call = 323 if os.uname().machine == "x86_64" else 282
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.syscall(system_call, os.O_CLOEXEC)
    if fd < 0 and not os.access("/dev/userfaultfd", os.R_OK | os.W_OK):
        raise Skip(f"no userfaultfd: {os.strerror(ctypes.get_errno())}")
    if fd >= 0:
        os.close(fd)
    version = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
    if version < (6, 8):
        raise Skip(f"the kernel is {os.uname().release}, and UFFDIO_MOVE came with 6.8")


def require_memory(mib):
    """Raises Skip where a domain of that size would push others out."""
    available = pathlib.Path("/proc/meminfo").read_text().split("MemAvailable:")[1].split()[0]
    if int(available) >> 10 < mib + 1024:
        raise Skip(f"needs {mib + 1024} MiB of free memory")


class Gone(Exception):
    """The domain closed the connection."""


class Client:
    """A connection to a domain's control socket."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect(str(path))
        self.file = self.socket.makefile("rb")
        self.read()

    def read(self):
        """One message."""
        try:
            line = self.file.readline()
        except ConnectionError:
            line = b""
        except TimeoutError:
            raise Failed(f"the domain did not answer for {PATIENCE_S} s") from None
        if not line:
            raise Gone
        return json.loads(line)

    def send(self, command, arguments=None, request_id=None):
        """Sends a request."""
        message = {"execute": command}
        if arguments is not None:
            message["arguments"] = arguments
        if request_id is not None:
            message["id"] = request_id
        try:
            self.socket.sendall(json.dumps(message).encode() + b"\n")
        except ConnectionError:
            raise Gone from None

    def call(self, command, arguments=None):
        """Sends a request and returns the whole reply; events are passed over."""
        self.send(command, arguments)
        while True:
            reply = self.read()
            if "event" not in reply:
                return reply

    def unread(self):
        """Bytes that have come and were not read."""
        count = array.array("i", [0])
        fcntl.ioctl(self.socket, termios.FIONREAD, count)
        return count[0]

    def stop_reading(self):
        """Has so much sent that the domain keeps part of a reply for us: then the answer to our
        next request, whatever it is, does not leave it."""
        while True:
            before = self.unread()
            self.send("query-domain", request_id="x" * 60000)
            deadline = time.monotonic() + 0.05
            while self.unread() < before + 60000:
                if time.monotonic() > deadline:
                    return
                time.sleep(0.001)

    def wait_closed(self):
        """Until the other end has closed. Returns what has come before."""
        messages = []
        with contextlib.suppress(Gone):
            while True:
                messages.append(self.read())
        return messages

    def close(self):
        """Closes the connection."""
        self.file.close()
        self.socket.close()


class Domain:
    """One process under the agent."""

    def __init__(self, session, name, process):
        self.folder = session.runtime / name
        self.name = name
        self.process = process
        self.still = lambda: True  # whether it is what it was made to be
        session.domains.append(self)

    def wait_line(self, line):
        """Until it says that."""
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE_S)
        check(ready, f"{self.name} should say '{line}'")
        said = self.process.stdout.readline().decode().strip()
        check(said == line, f"it said '{said}' instead of '{line}'")

    def go_on(self, line=""):
        """After a line that it said."""
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def connect(self):
        """A connection, as soon as it listens. Gone if the process ended first."""
        path = self.folder / "control.sock"

        def connected():
            try:
                return Client(path)
            except (FileNotFoundError, ConnectionError):
                if self.process.poll() is not None:
                    raise Gone from None
                return None
        return until(connected, "it should listen", 0.002)

    def query(self):
        """What query-domain returns."""
        client = self.connect()
        reply = client.call("query-domain")
        client.close()
        return reply["return"]

    def resident(self, described, what, pages=None):
        """Pages in a range, "ram" or "cache", or in so many pages at its start, by the kernel's
        count; None if the process is gone or going."""
        first, count = described[f"{what}_start"] // PAGE, pages
        if pages is None:
            count = described[f"{what}_bytes"] // PAGE
        try:
            with open(f"/proc/{self.process.pid}/pagemap", "rb", buffering=0) as pagemap:
                pagemap.seek(first * 8)
                data = pagemap.read(count * 8)
        except (OSError, ValueError):
            return None
        if len(data) != count * 8:
            return None
        return sum(1 for entry in array.array("Q", data) if entry >> 62)

    def finish(self):
        """Waits for its end. Its exit status (as Popen has it) and what it wrote to stderr."""
        try:
            self.process.wait(PATIENCE_S)  # communicate() would close its input first
            _, errors = self.process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.name} did not end within {PATIENCE_S} s") from None
        return self.process.returncode, (errors or b"").decode()

    def must_end_destroyed(self):
        """It ends, or has ended, as a domain does that was destroyed, and leaves nothing."""
        status, errors = self.finish()
        check(status == EXIT_DESTROYED,
              f"{self.name} ended with {status} instead of {EXIT_DESTROYED}, saying: {errors}")
        check(not self.folder.exists(),
              f"{self.name} left {list(self.folder.glob('*'))}")


class Session:
    """Owns what a test starts and makes."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="ballast-host-"))
        self.runtime = self.folder / "run"
        self.runtime.mkdir(mode=0o700)
        self.domains = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end_domains()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, name, words, target_mib=16, stderr=subprocess.PIPE, before=None, preload=(),
              **options):
        """Starts fake_qemu with these words, and the agent with these options, as a launcher does:
        docs/protocol.md. before() is called in the new process; preload is loaded with the agent."""
        folder = self.runtime / name
        folder.mkdir(mode=0o700, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        config = {"name": name, "directory": str(folder), "lock_fd": lock,
                  "target_bytes": target_mib * MIB, "max_bytes": 0, **options}
        # verify_asan_link_order: for builds with a sanitizer, which must bear the preloaded one.
        environment = dict(os.environ, BALLAST_AGENT=json.dumps(config),
                           LD_PRELOAD=":".join([str(BUILD / "src/agent/ballast-agent.so"),
                                                *map(str, preload)]),
                           ASAN_OPTIONS="verify_asan_link_order=0:detect_leaks=0")
        process = subprocess.Popen(
            [BUILD / "tests/host/fake_qemu", *[str(word) for word in words]], env=environment,
            pass_fds=[lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr,
            preexec_fn=before)
        os.close(lock)
        return Domain(self, name, process)

    def start_qemu(self, name, target_mib, words):
        """Starts a real QEMU with `ballast run`."""
        process = subprocess.Popen(
            [BUILD / "tools/ballast", "run", "--name", name, "--target", f"{target_mib}M", "--",
             *words], env=dict(os.environ, BALLAST_RUNTIME_DIR=str(self.runtime)),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        return Domain(self, name, process)

    def end_domains(self):
        """Kills what still runs."""
        for domain in self.domains:
            if domain.process.poll() is None:
                domain.process.kill()
            domain.process.communicate()
        self.domains.clear()

    def start_ballast(self, *words):
        """Starts a ballast command."""
        return subprocess.Popen([BUILD / "tools/ballast", *[str(word) for word in words]],
                                env=dict(os.environ, BALLAST_RUNTIME_DIR=str(self.runtime)),
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)

    def ballast(self, *words):
        """Runs a ballast command to its end."""
        return subprocess.run([BUILD / "tools/ballast", *[str(word) for word in words]], text=True,
                              env=dict(os.environ, BALLAST_RUNTIME_DIR=str(self.runtime)),
                              capture_output=True, stdin=subprocess.DEVNULL, timeout=PATIENCE_S,
                              check=False)


class Observer:
    """The accounting oracle (tests/lib/observer.c), while the target is one or among some."""

    totals = {"samples": 0, "deviations": 0, "in_flight_reread": 0, "in_flight_stopped": 0,
              "broken_up": 0}

    def __init__(self, session, name, between=()):
        self.process = subprocess.Popen(
            [BUILD / "tests/guest/observer", "--hz", "0", *between, name], text=True,
            stdout=subprocess.PIPE, env=dict(os.environ, BALLAST_RUNTIME_DIR=str(session.runtime)))
        line = self.process.stdout.readline()
        if not line and self.process.wait() == harness.SKIP:
            raise Skip("the kernel has no PAGEMAP_SCAN for the observer")
        check(line, "the observer should take a sample")

    def stop(self):
        """Ends it, and holds what it saw against what must be."""
        self.process.terminate()
        report = json.loads(self.process.communicate()[0])
        for key in self.totals:
            self.totals[key] += report[key]
        check(report["good"], f"the kernel's books say otherwise: {report}")


def run_tests(*tests):
    """Runs the functions, each with a session of its own, and ends the program: 0, 1, or 77 if all
    were skipped."""
    harness.run_tests(tests, lambda test: " ".join(test.__doc__.split()), require_userfaultfd,
                      Session)
